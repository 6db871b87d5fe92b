"""Bijections: the parts that flows are built from."""

from pushforward.bijections.amortized import Amortized as Amortized, RescaledCondition as RescaledCondition
from pushforward.bijections.autoregressive import Coupling as Coupling, MaskedAutoregressive as MaskedAutoregressive
from pushforward.bijections.base import (
    AbstractBijection as AbstractBijection,
    num_parameters as num_parameters,
    shift_arrays as shift_arrays,
)
from pushforward.bijections.box import OntoBox as OntoBox
from pushforward.bijections.circular import CircularSpline as CircularSpline, OntoCircles as OntoCircles
from pushforward.bijections.composition import (
    Chain as Chain,
    Elementwise as Elementwise,
    Identity as Identity,
    Invert as Invert,
    Scan as Scan,
)
from pushforward.bijections.conditionals import ConditionalRosenblatt as ConditionalRosenblatt
from pushforward.bijections.conditioners import MLP as MLP
from pushforward.bijections.constant import Frozen as Frozen
from pushforward.bijections.continuous import Continuous as Continuous
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
from pushforward.bijections.quadrature import QuadratureRosenblatt as QuadratureRosenblatt
from pushforward.bijections.recurrent import RecurrentAutoregressive as RecurrentAutoregressive
from pushforward.bijections.residual import (
    AbstractLogDet as AbstractLogDet,
    Contractive as Contractive,
    ExactLogDet as ExactLogDet,
    PowerSeries as PowerSeries,
    RussianRoulette as RussianRoulette,
)
from pushforward.bijections.rosenblatt import GaussianMixtureRosenblatt as GaussianMixtureRosenblatt
from pushforward.bijections.splines import (
    CubicSpline as CubicSpline,
    LinearRationalSpline as LinearRationalSpline,
    LinearSpline as LinearSpline,
    QuadraticSpline as QuadraticSpline,
    RationalQuadraticSpline as RationalQuadraticSpline,
)
