"""Models that LiteRT loads or begins to load, but that end the process, or have no result."""

from __future__ import annotations

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema


def crashing(model: bytes) -> bytes:
    """Return a model with a branch to its own beginning: LiteRT follows it until the stack is full, which is SIGSEGV.

    Other damage, such as a result that is written over the weights, ends the process only in most cases.
    """
    content = _read(model)
    (graph,) = content.subgraphs
    code = schema.OperatorCodeT(builtinCode=schema.BuiltinOperator.IF, version=1)
    code.deprecatedBuiltinCode = schema.BuiltinOperator.IF
    condition = schema.TensorT(shape=np.ones(1, np.int32), type=schema.TensorType.BOOL, name="condition")
    condition.buffer = len(content.buffers)
    branch = schema.OperatorT(
        opcodeIndex=len(content.operatorCodes),
        inputs=np.array([len(graph.tensors), graph.inputs[0]], np.int32),
        outputs=np.array([len(graph.tensors) + 1], np.int32),
        builtinOptionsType=schema.BuiltinOptions.IfOptions,
        builtinOptions=schema.IfOptionsT(thenSubgraphIndex=0, elseSubgraphIndex=0),
    )
    result = schema.TensorT(shape=graph.tensors[graph.outputs[0]].shape, name="result")
    content.buffers.append(schema.BufferT(data=np.ones(1, np.uint8)))
    content.operatorCodes.append(code)
    graph.tensors += [condition, result]
    graph.operators.append(branch)
    return _write(content)


def without_output(model: bytes) -> bytes:
    """Return a model without an output, which LiteRT loads."""
    content = _read(model)
    content.subgraphs[0].outputs = []
    return _write(content)


def _read(model: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromPackedBuf(model)


def _write(content: schema.ModelT) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output())
