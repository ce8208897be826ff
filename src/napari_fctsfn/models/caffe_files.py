"""Caffe's files, read without Caffe: layers from a prototxt, weights from a caffemodel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fctsfn.errors import InputError
from napari_fctsfn.models.store import ModelError

_LARGEST_TEXT = 16 << 20
_LARGEST_WEIGHTS = 2 << 30
"""No protobuf message is larger."""

_Fields = dict[str, tuple[int, str | tuple[str, ...], str]]

_MESSAGES: dict[str, _Fields] = {
    "NetParameter": {
        "layers": (2, "V1LayerParameter*", ""),
        "layer": (100, "LayerParameter*", ""),
    },
    "LayerParameter": {
        "name": (1, "string", ""),
        "type": (2, "string", ""),
        "bottom": (3, "string*", ""),
        "top": (4, "string*", ""),
        "blobs": (7, "BlobProto*", ""),
        "concat_param": (104, "ConcatParameter", ""),
        "convolution_param": (106, "ConvolutionParameter", ""),
        "eltwise_param": (110, "EltwiseParameter", ""),
        "pooling_param": (121, "PoolingParameter", ""),
        "relu_param": (123, "ReLUParameter", ""),
        "batch_norm_param": (139, "BatchNormParameter", ""),
        "scale_param": (142, "ScaleParameter", ""),
        "crop_param": (144, "CropParameter", ""),
    },
    "V1LayerParameter": {"name": (4, "string", ""), "blobs": (6, "BlobProto*", "")},
    "BlobShape": {"dim": (1, "int64*", "")},
    "BlobProto": {
        "num": (1, "int32", "0"),
        "channels": (2, "int32", "0"),
        "height": (3, "int32", "0"),
        "width": (4, "int32", "0"),
        # Packed numbers lie in a file as bytes do, and bytes need no Python object for each number.
        "data": (5, "bytes", ""),
        "shape": (7, "BlobShape", ""),
        "double_data": (8, "bytes", ""),
    },
    "ConcatParameter": {"axis": (2, "int32", "1")},
    "ConvolutionParameter": {
        "num_output": (1, "uint32", ""),
        "bias_term": (2, "bool", "true"),
        "pad": (3, "uint32*", ""),
        "kernel_size": (4, "uint32*", ""),
        "group": (5, "uint32", "1"),
        "stride": (6, "uint32*", ""),
        "pad_h": (9, "uint32", "0"),
        "pad_w": (10, "uint32", "0"),
        "kernel_h": (11, "uint32", ""),
        "kernel_w": (12, "uint32", ""),
        "stride_h": (13, "uint32", ""),
        "stride_w": (14, "uint32", ""),
        "dilation": (18, "uint32*", ""),
    },
    "EltwiseParameter": {
        "operation": (1, ("PROD", "SUM", "MAX"), "SUM"),
        "coeff": (2, "float*", ""),
    },
    "PoolingParameter": {
        "pool": (1, ("MAX", "AVE", "STOCHASTIC"), "MAX"),
        "kernel_size": (2, "uint32*", ""),
        "stride": (3, "uint32*", ""),
        "pad": (4, "uint32*", ""),
        "kernel_h": (5, "uint32", ""),
        "kernel_w": (6, "uint32", ""),
        "stride_h": (7, "uint32", ""),
        "stride_w": (8, "uint32", ""),
        "pad_h": (9, "uint32", "0"),
        "pad_w": (10, "uint32", "0"),
        "global_pooling": (12, "bool", "false"),
        "round_mode": (13, ("CEIL", "FLOOR"), "CEIL"),
    },
    "ReLUParameter": {"negative_slope": (1, "float", "0")},
    "BatchNormParameter": {
        "use_global_stats": (1, "bool", "true"),
        "eps": (3, "float", "1e-5"),
    },
    "ScaleParameter": {"axis": (1, "int32", "1"), "bias_term": (4, "bool", "false")},
    "CropParameter": {"axis": (1, "int32", "2"), "offset": (2, "uint32*", "")},
}
"""The part of Caffe's format that is needed: of each message the fields' numbers, their types (with
a star where there may be several; the names where it is an enumeration) and what a missing one
means."""

_PASSING = ("Dropout",)
"""Types of layers that do nothing when a network is used."""

_ENDS = ("Softmax", "SoftmaxWithLoss", "Accuracy", "Silence")
"""Types of layers that only use what the network gives."""


@dataclass(frozen=True)
class Layer:
    """A layer of a prototxt.

    Parameters
    ----------
    name, type : str
        As Caffe has them.
    settings : dict
        By name, as an error shows them: the layers it takes, and what it does with them. All that
        change what it computes, so that layers with equal settings compute the same.
    """

    name: str
    type: str
    settings: dict[str, str | int]


def read_prototxt(path: Path) -> dict[str, Layer]:
    """The layers of a network by name, without its inputs, dropout, softmax and losses.

    A layer's input is named by the layer it comes from, since layers may work in place; an input
    of the network by its own name.

    Raises
    ------
    InputError
        If protobuf is missing.
    ModelError
        If the file cannot be read or is no prototxt.
    """
    net = _net_parameter()
    from google.protobuf import text_format

    try:
        text = _read(path, _LARGEST_TEXT).decode()
        text_format.Parse(text, net, allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path} is not a prototxt file of Caffe: {reason}") from None
    layers: dict[str, Layer] = {}
    source: dict[str, str] = {}
    for layer in net.layer:
        inputs = [source.get(bottom, bottom) for bottom in layer.bottom]
        if not inputs or layer.type in _ENDS:
            continue
        passes = layer.type in _PASSING
        source.update(dict.fromkeys(layer.top, inputs[0] if passes else layer.name))
        if not passes:
            settings = {"input": " and ".join(inputs), **_settings(layer)}
            layers[layer.name] = Layer(layer.name, layer.type, settings)
    return layers


def read_caffemodel(path: Path) -> dict[str, list[NDArray[np.float32]]]:
    """The weights of each layer that has any.

    Raises
    ------
    InputError
        If protobuf is missing.
    ModelError
        If the file cannot be read, or is damaged or cut off within a layer.
    """
    net = _net_parameter()
    from google.protobuf.message import DecodeError

    content = _read(path, _LARGEST_WEIGHTS)
    try:
        net.ParseFromString(content)
        del content
        return {
            layer.name: [_array(blob, path, layer.name) for blob in layer.blobs]
            for layer in (*net.layers, *net.layer)
            if layer.blobs
        }
    except (DecodeError, UnicodeDecodeError):
        raise ModelError(
            f"{path} is not a caffemodel, or it is damaged or cut off; get it again"
        ) from None


def window(*sizes: int) -> str:
    """Sizes along rows and columns as settings show them: ``3``, or where they differ ``3x5``."""
    return "x".join(map(str, sizes if len(set(sizes)) > 1 else sizes[:1]))


def _read(path: Path, largest: int) -> bytes:
    try:
        size = path.stat().st_size
        if size >= largest:
            raise ModelError(f"{path} has {size} bytes, more than such a file of Caffe can have")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None


def _net_parameter() -> Any:
    """An empty message of the type that both kinds of file hold."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ModuleNotFoundError:
        raise InputError(
            "reading files of Caffe needs protobuf: pip install 'napari-fctsfn[caffe]'"
        ) from None
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    types = descriptor_pb2.FieldDescriptorProto
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, kind, default) in fields.items():
            many = isinstance(kind, str) and kind.endswith("*")
            field = described.field.add(name=name, number=number)
            field.label = types.LABEL_REPEATED if many else types.LABEL_OPTIONAL
            if default:
                field.default_value = default
            if isinstance(kind, tuple):
                field.type_name = f".caffe.{message}.{name.title()}"
                enumeration = described.enum_type.add(name=name.title())
                for place, value in enumerate(kind):
                    enumeration.value.add(name=value, number=place)
            elif kind.rstrip("*") in _MESSAGES:
                field.type_name = f".caffe.{kind.rstrip('*')}"
            else:
                field.type = getattr(types, f"TYPE_{kind.rstrip('*').upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))()


def _array(blob: Any, path: Path, layer: str) -> NDArray[np.float32]:
    """The numbers of a blob in its shape."""
    data, dtype = (blob.data, "<f4") if blob.data else (blob.double_data, "<f8")
    shape = (blob.num, blob.channels, blob.height, blob.width)
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    count = math.prod(shape) if all(length >= 0 for length in shape) else -1
    if count * np.dtype(dtype).itemsize != len(data):
        raise ModelError(
            f"{path} is damaged: the weights of {layer[:100]!r} do not have the shape it says"
        )
    with np.errstate(over="ignore"):
        return np.frombuffer(data, dtype).astype(np.float32, copy=False).reshape(shape)


def _settings(layer: Any) -> dict[str, str | int]:
    """What a layer does, as far as Caffe's types of this kind of network go."""
    settings: dict[str, str | int] = {}
    match layer.type:
        case "Convolution" | "Deconvolution":
            parameter = layer.convolution_param
            settings = {
                "outputs": parameter.num_output,
                **_windows(parameter),
                "dilation": window(*(parameter.dilation or [1])),
                "groups": parameter.group,
                "bias": _yes(parameter.bias_term),
            }
        case "Pooling":
            parameter = layer.pooling_param
            settings = {
                "method": _name(parameter, "pool"),
                **_windows(parameter),
                "everywhere": _yes(parameter.global_pooling),
                "rounding": _name(parameter, "round_mode"),
            }
        case "Crop":
            parameter = layer.crop_param
            settings = {"axis": parameter.axis, "offset": window(*(parameter.offset or [0]))}
        case "BatchNorm":
            parameter = layer.batch_norm_param
            settings = {
                "eps": f"{parameter.eps:.6g}",
                "statistics": "stored" if parameter.use_global_stats else "own",
            }
        case "Scale":
            parameter = layer.scale_param
            settings = {"axis": parameter.axis, "bias": _yes(parameter.bias_term)}
        case "Eltwise":
            parameter = layer.eltwise_param
            factors = " ".join(f"{factor:g}" for factor in parameter.coeff if factor != 1)
            settings = {"operation": _name(parameter, "operation"), "factors": factors or "none"}
        case "Concat":
            settings = {"axis": layer.concat_param.axis}
        case "ReLU":
            settings = {"slope": f"{layer.relu_param.negative_slope:g}"}
    return settings


def _windows(parameter: Any) -> dict[str, str]:
    """Kernel, stride and padding, each given once, for each axis, or as height and width."""
    found = {}
    for setting, name, short, default in (
        ("kernel", "kernel_size", "kernel", 0),
        ("stride", "stride", "stride", 1),
        ("padding", "pad", "pad", 0),
    ):
        axes = (f"{short}_h", f"{short}_w")
        if any(map(parameter.HasField, axes)):
            found[setting] = window(*(getattr(parameter, axis) for axis in axes))
        else:
            found[setting] = window(*(getattr(parameter, name) or [default]))
    return found


def _name(parameter: Any, field: str) -> str:
    """The name of an enumeration's value."""
    names = parameter.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return str(names[getattr(parameter, field)].name)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
