"""The Dehazing Attribution Map of scenes of any size, streamed over tiles (supplement, section 7)."""

from .budget import AttributionPlan, plan_attribution
from .ends import Ends
from .spread import Spread
from .stream import Attributed, stream_attribution

__all__ = ["Attributed", "AttributionPlan", "Ends", "Spread", "plan_attribution", "stream_attribution"]
