"""IBSSA: exact with one block, closer to exact as blocks grow, and the order of the tokens is restored."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.ibssa import IBSSA, block_attention, block_bounds, gray_rank, key_bounds
from torch.nn.functional import scaled_dot_product_attention as exact_attention


def make(block, dim=16, heads=2, bits=8, neighbours=False, seed=0):
    torch.manual_seed(seed)
    return IBSSA(dim, heads, block, bits, neighbours).eval()


def dense(module, x):
    y = exact_attention(*module.project(x))
    return module.proj(y.transpose(1, 2).flatten(2))


def clustered(seed, tokens=512, clusters=24, dim=32, sharpness=8.0):
    """Draw queries, keys and values of a few clusters, so that a query's relevant keys lie near it."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.nn.functional.normalize(torch.randn(2, clusters, dim, generator=generator), dim=-1)
    member = torch.randint(clusters, (tokens,), generator=generator)

    def near(scale):
        noise = torch.randn(2, tokens, dim, generator=generator) * 0.3 / dim**0.5
        return (scale * (centre[:, member] + noise))[None]

    query, key = near(sharpness * dim**0.5), near(1.0)
    value = near(1.0) + 0.2 * torch.randn(1, 2, tokens, dim, generator=generator)
    return query, key, value


def mean_error(block, neighbours=False, seeds=6):
    """Return the relative distance from dense attention, averaged over seeds."""
    errors = []
    for seed in range(seeds):
        query, key, value = clustered(seed)
        wanted = exact_attention(query, key, value)
        found = make(block, dim=64, neighbours=neighbours, seed=seed).attend(query, key, value)
        errors.append(float((found - wanted).norm() / wanted.norm()))
    return sum(errors) / seeds


@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_gray_rank_is_a_permutation_whose_neighbours_differ_in_one_bit(bits):
    codes = torch.arange(2**bits, dtype=torch.int32)
    rank = gray_rank(codes)
    assert torch.equal(rank.sort().values, codes)
    ordered = codes[rank.argsort()]
    changed = (ordered[1:] ^ ordered[:-1]).tolist()
    assert all(c.bit_count() == 1 for c in changed)


@given(tokens=st.integers(1, 2000), block=st.integers(1, 300))
@settings(deadline=None)
def test_blocks_cover_all_tokens_once_and_the_remainder_joins_the_last(tokens, block):
    bounds = block_bounds(tokens, block)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == tokens
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    assert all(stop - start == block for start, stop in bounds[:-1])
    assert len(bounds) == 1 or block <= bounds[-1][1] - bounds[-1][0] < 2 * block


@given(tokens=st.integers(1, 70), block=st.integers(1, 24), neighbours=st.booleans(), batch=st.integers(1, 2))
@settings(deadline=None, max_examples=80)
def test_block_attention_equals_a_plain_loop(tokens, block, neighbours, batch):
    generator = torch.Generator().manual_seed(tokens * 100 + block)
    q, k, v = torch.randn(3, batch, 2, tokens, 4, generator=generator).unbind(0)
    bounds = block_bounds(tokens, block)
    expected = []
    for index, (start, stop) in enumerate(bounds):
        first, last = (max(0, index - 1), min(len(bounds) - 1, index + 1)) if neighbours else (index, index)
        low, high = bounds[first][0], bounds[last][1]
        assert key_bounds(bounds, index, neighbours) == (low, high)
        weight = (q[:, :, start:stop] @ k[:, :, low:high].transpose(-1, -2) / 4**0.5).softmax(-1)
        expected.append(weight @ v[:, :, low:high])
    found = block_attention(q, k, v, block, neighbours)
    torch.testing.assert_close(found, torch.cat(expected, 2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize(("tokens", "block"), [(1, 16), (16, 16), (31, 16), (40, 64), (7, 1000)])
@torch.no_grad()
def test_fewer_than_two_blocks_of_tokens_are_attended_exactly(tokens, block, neighbours):
    module = make(block, neighbours=neighbours)
    x = torch.randn(2, tokens, 16)
    torch.testing.assert_close(module(x), dense(module, x))


@pytest.mark.parametrize(("tokens", "block"), [(32, 16), (45, 16)])
@torch.no_grad()
def test_two_blocks_that_see_each_other_are_exact_too(tokens, block):
    module = make(block, neighbours=True)
    x = torch.randn(2, tokens, 16)
    torch.testing.assert_close(module(x), dense(module, x), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_error_falls_as_blocks_grow_and_ends_at_zero():
    errors = [mean_error(block) for block in (16, 64, 128, 256, 512)]
    assert all(later < 0.9 * earlier for earlier, later in itertools.pairwise(errors))
    assert errors[0] < 1
    assert errors[-1] < 1e-6


@pytest.mark.parametrize("block", [16, 32, 64])
@torch.no_grad()
def test_looking_at_adjacent_blocks_reduces_the_error(block):
    assert mean_error(block, neighbours=True) < 0.9 * mean_error(block)


@torch.no_grad()
def test_hashing_finds_relevant_keys_better_than_the_order_of_the_tokens():
    hashed, unsorted = 0.0, 0.0
    for seed in range(6):
        query, key, value = clustered(seed)
        wanted = exact_attention(query, key, value)
        hashed += float((make(64, dim=64, seed=seed).attend(query, key, value) - wanted).norm())
        unsorted += float((block_attention(query, key, value, 64, neighbours=False) - wanted).norm())
    assert hashed < 0.8 * unsorted


@pytest.mark.parametrize("tokens", [32, 53, 200])
@torch.no_grad()
def test_tokens_that_attend_to_themselves_come_out_where_they_went_in(tokens):
    module = make(8, dim=32, bits=16)
    token = 60 * torch.nn.functional.normalize(torch.randn(1, 2, tokens, 16), dim=-1)
    value = torch.randn(1, 2, tokens, 16)
    torch.testing.assert_close(module.attend(token, token, value), value, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("neighbours", [False, True])
@torch.no_grad()
def test_permuted_tokens_give_the_permuted_output_where_no_codes_tie(neighbours):
    module = make(8, dim=64, bits=16, neighbours=neighbours)
    for seed in range(100):
        x = torch.randn(1, 37, 64, generator=torch.Generator().manual_seed(seed))
        codes = [module.codes(part)[0, head] for part in module.project(x)[:2] for head in range(2)]
        if all(len(code.unique()) == 37 for code in codes):
            break
    else:
        pytest.fail("no draw without ties")
    order = torch.randperm(37, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_ties_are_broken_by_the_order_of_the_tokens():
    module = make(4)
    same = torch.randn(1, 2, 1, 8).expand(1, 2, 12, 8)
    value = torch.arange(12.0)[None, None, :, None].expand(1, 2, 12, 8)
    found = module.attend(same, same, value)[0, 0, :, 0]
    torch.testing.assert_close(found, torch.tensor([1.5] * 4 + [5.5] * 4 + [9.5] * 4))


@given(tokens=st.integers(1, 120), block=st.integers(1, 40), neighbours=st.booleans())
@settings(deadline=None, max_examples=40)
def test_any_number_of_tokens_is_mixed_into_averages_of_values(tokens, block, neighbours):
    module = make(block, neighbours=neighbours)
    x = torch.randn(2, tokens, 16, generator=torch.Generator().manual_seed(tokens))
    with torch.no_grad():
        query, key, value = module.project(x)
        found = module.attend(query, key, value)
    assert found.shape == value.shape
    assert (found <= value.amax(2, keepdim=True) + 1e-5).all()
    assert (found >= value.amin(2, keepdim=True) - 1e-5).all()


@torch.no_grad()
def test_scenes_of_a_batch_do_not_see_each_other():
    module = make(8)
    x = torch.randn(3, 50, 16)
    torch.testing.assert_close(module(x), torch.cat([module(one[None]) for one in x]))


@torch.no_grad()
def test_codes_depend_on_directions_alone():
    module = make(8, bits=12)
    x = torch.randn(1, 2, 50, 8)
    codes = module.codes(x)
    assert codes.shape == (1, 2, 50)
    assert codes.min() >= 0
    assert codes.max() < 2**12
    assert torch.equal(module.codes(7 * x), codes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module.codes(x), codes)


@torch.no_grad()
def test_projections_are_part_of_the_state_so_that_a_reloaded_layer_gives_the_same_bits():
    module, other = make(8, seed=1), make(8, seed=2)
    x = torch.randn(2, 60, 16)
    assert "projection" in module.state_dict()
    assert not torch.equal(module(x), other(x))
    other.load_state_dict(module.state_dict())
    assert torch.equal(module(x), other(x))


def test_gradients_reach_every_parameter():
    module = make(8).train()
    module(torch.randn(1, 40, 16)).square().sum().backward()
    # a bias on keys moves all scores of a query alike, so its share of the gradient is zero
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


@pytest.mark.parametrize("bits", [0, 17])
def test_code_lengths_that_do_not_fit_are_refused(bits):
    with pytest.raises(ValueError, match="between 1 and 16"):
        IBSSA(16, 2, 8, bits)


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of heads"):
        IBSSA(15, 2, 8)
