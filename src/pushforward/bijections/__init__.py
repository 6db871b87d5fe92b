"""Bijections: the parts that flows are built from."""

from pushforward.bijections.amortized import (
    Amortized as Amortized,
    AtCondition as AtCondition,
    RescaledCondition as RescaledCondition,
)
from pushforward.bijections.arrays import num_parameters as num_parameters, shift_arrays as shift_arrays
from pushforward.bijections.autoregressive.coupling import Coupling as Coupling
from pushforward.bijections.autoregressive.masked import MaskedAutoregressive as MaskedAutoregressive
from pushforward.bijections.autoregressive.networks import MLP as MLP
from pushforward.bijections.autoregressive.quadratic import QuadraticAutoregressive as QuadraticAutoregressive
from pushforward.bijections.autoregressive.recurrent import RecurrentAutoregressive as RecurrentAutoregressive
from pushforward.bijections.banded import Arrow as Arrow, Banded as Banded
from pushforward.bijections.base import AbstractBijection as AbstractBijection
from pushforward.bijections.box import OntoBox as OntoBox
from pushforward.bijections.circular import CircularSpline as CircularSpline, OntoCircles as OntoCircles
from pushforward.bijections.composition import (
    Chain as Chain,
    Concatenate as Concatenate,
    Elementwise as Elementwise,
    Identity as Identity,
    Scan as Scan,
)
from pushforward.bijections.continuous import Continuous as Continuous
from pushforward.bijections.contractive import (
    AbstractLogDet as AbstractLogDet,
    Contractive as Contractive,
    ExactLogDet as ExactLogDet,
    PowerSeries as PowerSeries,
    RussianRoulette as RussianRoulette,
)
from pushforward.bijections.elementwise import (
    Affine as Affine,
    Arctan as Arctan,
    Exp as Exp,
    LeakyReLU as LeakyReLU,
    Power as Power,
    Shift as Shift,
    Sigmoid as Sigmoid,
    SinhArcsinh as SinhArcsinh,
    Softplus as Softplus,
    Tanh as Tanh,
    YeoJohnson as YeoJohnson,
)
from pushforward.bijections.linear import (
    PLU as PLU,
    QR as QR,
    Orthogonal as Orthogonal,
    Permutation as Permutation,
    Triangular as Triangular,
)
from pushforward.bijections.low_rank import (
    Planar as Planar,
    Radial as Radial,
    Sylvester as Sylvester,
    TriangularSylvester as TriangularSylvester,
)
from pushforward.bijections.monotone import (
    DeepSigmoidal as DeepSigmoidal,
    IntegralNetwork as IntegralNetwork,
    MonotoneNetwork as MonotoneNetwork,
)
from pushforward.bijections.rotation import Rotation as Rotation
from pushforward.bijections.splines import (
    CubicSpline as CubicSpline,
    LinearRationalSpline as LinearRationalSpline,
    LinearSpline as LinearSpline,
    QuadraticSpline as QuadraticSpline,
    RationalQuadraticSpline as RationalQuadraticSpline,
)
from pushforward.bijections.wrappers import Frozen as Frozen, Invert as Invert
