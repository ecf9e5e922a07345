"""LMMoE: two experts at each location and a shared one; the sparse form equals the dense one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from infdehaze.lmmoe import HALO, KERNELS, SHARED_WEIGHT, TOP_K, Expert, LMMoE
from torch.utils.flop_counter import FlopCounterMode


def make(dim=8, window=8, seed=0):
    torch.manual_seed(seed)
    module = LMMoE(dim, expansion=2, window=window)
    torch.nn.init.normal_(module.gate.weight)
    return module.eval()


def send_all_to(module, *experts):
    """Bias the gate so that these experts, and no others, are chosen everywhere."""
    module.gate.weight.data.zero_()
    module.gate.bias.data.fill_(-10)
    for rank, expert in enumerate(experts):
        module.gate.bias.data[expert] = 10 - 0.5 * rank


class Untouched(Expert):
    def inner(self, x_BhwC):
        if x_BhwC.numel():
            pytest.fail("an expert that nobody chose was computed")
        return super().inner(x_BhwC)


def test_there_are_three_small_and_three_large_experts_and_two_are_chosen():
    assert sorted(KERNELS) == [3, 3, 3, 5, 5, 5]
    assert (TOP_K, SHARED_WEIGHT, HALO) == (2, 0.1, 2)
    module = make()
    assert [expert.depthwise.kernel_size for expert in module.experts] == [(k, k) for k in KERNELS]
    assert module.shared.depthwise.kernel_size == (3, 3)


@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 21),
    width=st.integers(1, 21),
    window=st.sampled_from([1, 3, 4, 8]),
    seed=st.integers(0, 20),
)
@settings(deadline=None, max_examples=50)
def test_the_sparse_form_equals_the_dense_one(batch, height, width, window, seed):
    module = make(window=window, seed=seed)
    x = torch.randn(batch, height, width, 8, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        torch.testing.assert_close(module.sparse(x), module.dense(x)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (8, 8), (16, 24), (65, 9), (100, 80)])
@torch.inference_mode()
def test_the_sparse_form_equals_the_dense_one_on_small_and_large_grids(height, width):
    module = make()
    x = torch.randn(2, height, width, 8)
    torch.testing.assert_close(module.sparse(x), module.dense(x)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("experts", [(0, 3), (1, 2), (4, 5)])
@torch.inference_mode()
def test_the_sparse_form_equals_the_dense_one_where_all_locations_agree(experts):
    module = make()
    send_all_to(module, *experts)
    x = torch.randn(1, 20, 17, 8)
    torch.testing.assert_close(module.sparse(x), module.dense(x)[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_each_location_has_two_experts_whose_weights_add_up_to_one():
    module = make()
    weight = module.route(torch.randn(2, 9, 11, 8)).weight_BhwX
    assert weight.shape == (2, 9, 11, 6)
    assert torch.equal((weight > 0).sum(-1), torch.full((2, 9, 11), 2))
    torch.testing.assert_close(weight.sum(-1), torch.ones(2, 9, 11))


@torch.no_grad()
def test_chosen_experts_keep_the_proportion_that_the_gate_gave_them():
    module = make()
    x = torch.randn(1, 5, 6, 8)
    share, chosen = module.gate(x).softmax(-1).topk(2, -1)
    weight = module.route(x).weight_BhwX.gather(-1, chosen)
    torch.testing.assert_close(weight[..., 0] / weight[..., 1], share[..., 0] / share[..., 1])


@pytest.mark.parametrize("form", ["dense", "sparse"])
@torch.no_grad()
def test_the_output_is_the_weighted_sum_of_the_chosen_experts_and_a_tenth_of_the_shared_one(form):
    module = make()
    send_all_to(module, 3, 0)
    x = torch.randn(2, 7, 10, 8)
    first = torch.tensor(0.5).sigmoid()
    expected = first * module.experts[3](x) + (1 - first) * module.experts[0](x) + 0.1 * module.shared(x)
    found = module.dense(x)[0] if form == "dense" else module.sparse(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_inference_does_not_compute_experts_that_nobody_chose():
    module = make()
    send_all_to(module, 0, 3)
    x = torch.randn(2, 19, 12, 8)
    expected = module.dense(x)[0]
    for index in (1, 2, 4, 5):
        module.experts[index].__class__ = Untouched
        for parameter in module.experts[index].parameters():
            parameter.fill_(float("nan"))
    torch.testing.assert_close(module.sparse(x), expected, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_inference_computes_an_expert_near_the_locations_that_chose_it_alone():
    module = make()
    module.gate.weight.zero_()
    # the first channel decides between expert 1 and expert 0; expert 3 is chosen everywhere
    module.gate.weight[1, 0], module.gate.weight[0, 0] = 10, -10
    module.gate.bias.copy_(torch.tensor([0.0, 0, -100, 50, -100, -100]))

    def operations(share):
        x = torch.randn(1, 64, 64, 8)
        x[..., 0] = -1
        x[:, : round(64 * share), :, 0] = 1
        with FlopCounterMode(display=False) as counter:
            module.sparse(x)
        return counter.get_total_flops()

    only_expert_0, with_both_everywhere_possible = operations(0.0), operations(0.5)
    # half of the rows for each of the two costs about what one of them costs everywhere
    assert with_both_everywhere_possible < 1.15 * only_expert_0


@pytest.mark.parametrize(("start", "stop"), [(0, 8), (8, 16), (8, 24), (16, 29), (3, 11), (20, 29), (0, 29)])
@torch.inference_mode()
def test_a_band_of_rows_with_its_surroundings_equals_the_whole(start, stop):
    module = make()
    x = torch.randn(2, 29, 13, 8)
    above, below = min(HALO, start), min(HALO, 29 - stop)
    band = module.sparse(x[:, start - above : stop + below], (above, below, 0, 0))
    torch.testing.assert_close(band, module.sparse(x)[:, start:stop], atol=1e-6, rtol=1e-5)


@torch.no_grad()
@torch.inference_mode()
def test_windows_without_data_are_left_out_and_change_no_other():
    module, x = make(), torch.randn(2, 29, 30, 8)
    valid = torch.zeros(2, 29, 30, dtype=torch.bool)
    valid[0, 9:14, 3:12] = valid[1, 28, 29] = True
    # windows of 8: those that hold a location with data
    touched = torch.zeros(2, 29, 30, dtype=torch.bool)
    touched[0, 8:16, :16] = touched[1, 24:, 24:] = True

    found, whole = module.sparse(x, valid_Bhw=valid), module.sparse(x)

    assert torch.equal(found[touched], whole[touched])
    assert not found[~touched].any()
    assert whole[~touched].any()


@torch.inference_mode()
def test_balance_is_one_for_an_even_gate_and_larger_for_a_collapsed_one():
    module = make()
    module.gate.weight.zero_()
    module.gate.bias.zero_()
    x = torch.randn(2, 12, 12, 8)
    assert float(module.dense(x)[1]) == pytest.approx(1)
    send_all_to(module, 0, 3)
    assert float(module.dense(x)[1]) == pytest.approx(3, rel=0.01)
    # a gate that follows the tokens shares the load out better than that
    assert 1 < float(make().dense(x)[1]) < 2


def test_the_balance_loss_teaches_the_gate():
    module = make().train()
    module.dense(torch.randn(1, 8, 8, 8))[1].backward()
    assert module.gate.weight.grad.abs().max() > 0


@pytest.mark.parametrize("form", ["dense", "sparse"])
@torch.no_grad()
def test_a_changed_cell_reaches_two_cells_around_and_no_further(form):
    module = make()
    run = module.sparse if form == "sparse" else module
    x = torch.randn(1, 21, 21, 8)
    changed = x.clone()
    changed[0, 10, 10] += 0.5
    changed_output = (run(x) - run(changed)).abs().amax(-1)[0]
    far = torch.ones(21, 21, dtype=torch.bool)
    far[10 - HALO : 11 + HALO, 10 - HALO : 11 + HALO] = False
    assert changed_output[far].max() < 1e-6
    assert changed_output[10, 10] > 1e-3


@pytest.mark.parametrize("kernel", [3, 5])
@torch.no_grad()
def test_an_expert_on_a_cut_with_its_reach_equals_the_expert_on_the_whole(kernel):
    expert = Expert(8, kernel, 2)
    x = torch.randn(2, 14, 15, 8)
    reach = kernel // 2
    cut = x[:, 4 - reach : 9 + reach, 5 - reach : 12 + reach]
    torch.testing.assert_close(expert.inner(cut), expert(x)[:, 4:9, 5:12], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_scenes_of_a_batch_do_not_see_each_other():
    module = make()
    x = torch.randn(3, 9, 13, 8)
    torch.testing.assert_close(
        module.sparse(x), torch.cat([module.sparse(one[None]) for one in x]), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize(("top", "bottom", "left", "right"), [(0, 8, 8, 16), (8, 16, 0, 24), (16, 29, 8, 30)])
@torch.inference_mode()
def test_a_part_with_its_surroundings_on_all_sides_equals_the_whole(top, bottom, left, right):
    torch.manual_seed(2)
    module, x = LMMoE(8, 2), torch.randn(1, 29, 30, 8)
    halo = (min(2, top), min(2, 29 - bottom), min(2, left), min(2, 30 - right))
    seen = x[:, top - halo[0] : bottom + halo[1], left - halo[2] : right + halo[3]]
    torch.testing.assert_close(
        module.sparse(seen, halo, windows=1), module.sparse(x)[:, top:bottom, left:right], atol=1e-6, rtol=1e-5
    )
