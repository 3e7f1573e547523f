"""What `tfrecal` hands on, for type checkers; `__init__.py` does it lazily."""
from tfrecal import metrics as metrics
from tfrecal.callbacks import AcquireLabels as AcquireLabels
from tfrecal.callbacks import EvaluateRetrieval as EvaluateRetrieval
from tfrecal.callbacks import SavePool as SavePool
from tfrecal.callbacks import SolveRatings as SolveRatings
from tfrecal.callbacks import StopAtBudget as StopAtBudget
from tfrecal.callbacks import StopAtPlateau as StopAtPlateau
from tfrecal.callbacks import StopAtTime as StopAtTime
from tfrecal.callbacks import StopBelowCost as StopBelowCost
from tfrecal.callbacks import StopWhenStable as StopWhenStable
from tfrecal.compare import comparison as experiment
from tfrecal.compare import config as comparison_config
from tfrecal.compare import scenarios as scenarios
from tfrecal.data import datasets as datasets
from tfrecal.data import interactions as interactions
from tfrecal.data import splits as splits
from tfrecal.data import templates as texts
from tfrecal.data.interactions import Interactions as Interactions
from tfrecal.data.templates import Template as Template
from tfrecal.data.world import world as world
from tfrecal.model import tasks as tasks
from tfrecal.model import towers as towers
from tfrecal.model import two_tower as models
from tfrecal.model.linear_block import BlockOptions as BlockOptions
from tfrecal.model.towers import CandidateTower as CandidateTower
from tfrecal.model.towers import QueryTower as QueryTower
from tfrecal.model.two_tower import TwoTower as TwoTower
from tfrecal.oracles import CallableOracle as CallableOracle
from tfrecal.oracles import FileQueueOracle as FileQueueOracle
from tfrecal.oracles import ReplayOracle as ReplayOracle
from tfrecal.pool import journal as journal
from tfrecal.pool import priors as priors
from tfrecal.pool import sequence as sequence
from tfrecal.pool import target as target
from tfrecal.pool.journal import Journal as Journal
from tfrecal.pool.pool import Pool as Pool
from tfrecal.pool.priors import ColumnPrior as ColumnPrior
from tfrecal.pool.priors import Embargo as Embargo
from tfrecal.pool.rateability import Rateability as Rateability
from tfrecal.pool.sequence import PoolSequence as PoolSequence
from tfrecal.pool.target import Target as Target
from tfrecal.scoring.beam import jobs as beam
from tfrecal.scoring.beam import vectors as vectors
from tfrecal.scoring.block_choice import (
    choose_linear_block as choose_linear_block,
)
from tfrecal.scoring.rating_choice import choose_rating_l2 as choose_rating_l2
from tfrecal.scoring.ratings import solve_ratings as solve_ratings
from tfrecal.scoring.scorer import PoolScorer as PoolScorer
from tfrecal.text import beeformer as beeformer
from tfrecal.text import distill as distill
from tfrecal.text import encoder as encoders
from tfrecal.text import simcse as simcse
from tfrecal.text.encoder import TextEncoder as TextEncoder

__version__: str
