"""The kinds of transformers that `TextEncoder` can run, by `model_type`."""

from tfrecal.architectures.albert import Albert
from tfrecal.architectures.base import Architecture
from tfrecal.architectures.bert import Bert, Electra
from tfrecal.architectures.distilbert import DistilBert
from tfrecal.architectures.gpt2 import GPT2
from tfrecal.architectures.mpnet import MPNet
from tfrecal.architectures.roberta import Roberta
from tfrecal.architectures.xlnet import XLNet

ARCHITECTURES: dict[str, type[Architecture]] = {
    each.kind: each for each in (
        Bert, Electra, DistilBert, MPNet, Roberta, Albert, GPT2, XLNet)
}
