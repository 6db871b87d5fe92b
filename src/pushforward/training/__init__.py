"""How is anything trained? An objective, batches, an optimizer, a stopping rule, a history and a checkpoint."""

from pushforward.training.callbacks import Progress as Progress
from pushforward.training.data import (
    AbstractBatches as AbstractBatches,
    Epochs as Epochs,
    NoBatches as NoBatches,
    Reread as Reread,
    Rows as Rows,
)
from pushforward.training.history import Evaluation as Evaluation, History as History
from pushforward.training.objectives import (
    AbstractObjective as AbstractObjective,
    ForwardKL as ForwardKL,
    ImportanceWeighted as ImportanceWeighted,
    Renyi as Renyi,
    ReverseKL as ReverseKL,
)
from pushforward.training.single import train as train
from pushforward.training.stopping import EarlyStopping as EarlyStopping
