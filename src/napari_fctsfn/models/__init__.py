"""Model files, their cards, and the registry."""

from napari_fctsfn._directories import data_directory
from napari_fctsfn.models.caffe import import_caffe, read_caffe
from napari_fctsfn.models.card import ModelCard, TrainingSet, weights_licence
from napari_fctsfn.models.registry import (
    DEFAULT,
    ModelEntry,
    check_new_name,
    choose_model,
    chosen_model,
    list_models,
    register_model,
    resolve_model,
)
from napari_fctsfn.models.shelf import (
    delete_model,
    deleted_models,
    export_model,
    import_model,
    rename_model,
    restore_model,
)
from napari_fctsfn.models.store import LoadedModel, ModelError, load_model, read_card, save_model

__all__ = [
    "DEFAULT",
    "LoadedModel",
    "ModelCard",
    "ModelEntry",
    "ModelError",
    "TrainingSet",
    "check_new_name",
    "choose_model",
    "chosen_model",
    "data_directory",
    "delete_model",
    "deleted_models",
    "export_model",
    "import_caffe",
    "import_model",
    "list_models",
    "load_model",
    "read_caffe",
    "read_card",
    "register_model",
    "rename_model",
    "resolve_model",
    "restore_model",
    "save_model",
    "weights_licence",
]
