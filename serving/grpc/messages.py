"""The messages of the Open Inference Protocol over gRPC, and its service.

A table in a descriptor pool of their own takes the place of generated code: two files that define the same package
cannot be in one pool, so that clients' code, such as tritonclient's, can be loaded beside this. Names and numbers are
those of https://github.com/kserve/open-inference-protocol and of Triton's superset, which agree but for
`InferParameter`, of which KServe knows only the first three choices, and the requests to load and unload a model.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE, FILE = "inference", "open_inference_protocol.proto"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

# The fields of each message, as number, type and name; * stands for repeated, map<T> for a map from text to T. In a
# message of ONE_OF, only one field is set. The values of an enumeration are numbered from 0.
MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "1 bool live",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "1 bool ready",
    "ModelReadyRequest": "1 string name, 2 string version",
    "ModelReadyResponse": "1 bool ready",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "1 string name, 2 string version, 3 string* extensions",
    "ModelMetadataRequest": "1 string name, 2 string version",
    "ModelMetadataResponse.TensorMetadata": "1 string name, 2 string datatype, 3 int64* shape",
    # KServe has `properties` as number 6, which Triton does not.
    "ModelMetadataResponse": "1 string name, 2 string* versions, 3 string platform, "
    "4 ModelMetadataResponse.TensorMetadata* inputs, 5 ModelMetadataResponse.TensorMetadata* outputs",
    "InferParameter": "1 bool bool_param, 2 int64 int64_param, 3 string string_param, 4 double double_param, "
    "5 uint64 uint64_param",
    "InferTensorContents": "1 bool* bool_contents, 2 int32* int_contents, 3 int64* int64_contents, "
    "4 uint32* uint_contents, 5 uint64* uint64_contents, 6 float* fp32_contents, 7 double* fp64_contents, "
    "8 bytes* bytes_contents",
    "ModelInferRequest.InferInputTensor": "1 string name, 2 string datatype, 3 int64* shape, "
    "4 map<InferParameter> parameters, 5 InferTensorContents contents",
    "ModelInferRequest.InferRequestedOutputTensor": "1 string name, 2 map<InferParameter> parameters",
    "ModelInferRequest": "1 string model_name, 2 string model_version, 3 string id, 4 map<InferParameter> parameters, "
    "5 ModelInferRequest.InferInputTensor* inputs, 6 ModelInferRequest.InferRequestedOutputTensor* outputs, "
    "7 bytes* raw_input_contents",
    "ModelInferResponse.InferOutputTensor": "1 string name, 2 string datatype, 3 int64* shape, "
    "4 map<InferParameter> parameters, 5 InferTensorContents contents",
    "ModelInferResponse": "1 string model_name, 2 string model_version, 3 string id, 4 map<InferParameter> parameters, "
    "5 ModelInferResponse.InferOutputTensor* outputs, 6 bytes* raw_output_contents",
    "ModelStreamInferResponse": "1 string error_message, 2 ModelInferResponse infer_response",
    "ModelConfigRequest": "1 string name, 2 string version",
    "ModelConfigResponse": "1 ModelConfig config",
    "ModelConfig": "1 string name, 2 string platform, 4 int32 max_batch_size, 5 ModelInput* input, "
    "6 ModelOutput* output, 11 ModelDynamicBatching dynamic_batching, 17 string backend",
    "ModelInput": "1 string name, 2 DataType data_type, 4 int64* dims, 8 bool optional",
    "ModelOutput": "1 string name, 2 DataType data_type, 3 int64* dims",
    "ModelDynamicBatching": "1 int32* preferred_batch_size",
    "ModelStatisticsRequest": "1 string name, 2 string version",
    "ModelStatisticsResponse": "1 ModelStatistics* model_stats",
    "ModelStatistics": "1 string name, 2 string version, 3 uint64 last_inference, 4 uint64 inference_count, "
    "5 uint64 execution_count, 6 InferStatistics inference_stats, 7 InferBatchStatistics* batch_stats",
    "InferBatchStatistics": "1 uint64 batch_size, 2 StatisticDuration compute_input, "
    "3 StatisticDuration compute_infer, 4 StatisticDuration compute_output",
    "InferStatistics": "1 StatisticDuration success, 2 StatisticDuration fail, 3 StatisticDuration queue, "
    "4 StatisticDuration compute_input, 5 StatisticDuration compute_infer, 6 StatisticDuration compute_output, "
    "7 StatisticDuration cache_hit, 8 StatisticDuration cache_miss",
    "StatisticDuration": "1 uint64 count, 2 uint64 ns",
    "RepositoryIndexRequest": "1 string repository_name, 2 bool ready",
    "RepositoryIndexResponse.ModelIndex": "1 string name, 2 string version, 3 string state, 4 string reason",
    "RepositoryIndexResponse": "1 RepositoryIndexResponse.ModelIndex* models",
    "ModelRepositoryParameter": "1 bool bool_param, 2 int64 int64_param, 3 string string_param, 4 bytes bytes_param",
    # KServe has `model_name` as number 1.
    "RepositoryModelLoadRequest": "1 string repository_name, 2 string model_name, "
    "3 map<ModelRepositoryParameter> parameters",
    # Triton's is empty, KServe's is not.
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "1 string repository_name, 2 string model_name, "
    "3 map<ModelRepositoryParameter> parameters",
    "RepositoryModelUnloadResponse": "",
}
ONE_OF = {"InferParameter": "parameter_choice", "ModelRepositoryParameter": "parameter_choice"}
ENUMS = {"DataType": "INVALID BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16"}
ENUM_PREFIX = "TYPE_"
# The methods of the service, each with the messages `<method>Request` and `<method>Response`.
METHODS = (
    *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelConfig"),
    *("ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
)
# The one method that takes and returns streams.
STREAM = "ModelStreamInfer"


def file_descriptor() -> FileDescriptorProto:
    """Return the description of all messages and of the service, as a .proto file would be compiled to."""
    file = FileDescriptorProto(name=FILE, package=PACKAGE, syntax="proto3")
    found: dict[str, Any] = {}
    # A message comes before those that it contains.
    for name in sorted(MESSAGES):
        outer, _, own = name.rpartition(".")
        found[name] = found[outer].nested_type.add(name=own) if outer else file.message_type.add(name=own)
        add_fields(found[name], name)
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values.split()):
            enum.value.add(name=ENUM_PREFIX + value, number=number)
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for method in METHODS:
        service.method.add(
            name=method, input_type=f".{PACKAGE}.{method}Request", output_type=f".{PACKAGE}.{method}Response"
        )
    service.method.add(
        name=STREAM,
        input_type=f".{PACKAGE}.ModelInferRequest",
        output_type=f".{PACKAGE}.{STREAM}Response",
        client_streaming=True,
        server_streaming=True,
    )
    return file


def add_fields(message: DescriptorProto, name: str) -> None:
    """Add the fields of a message of the table to its description."""
    if name in ONE_OF:
        message.oneof_decl.add(name=ONE_OF[name])
    for entry in filter(None, MESSAGES[name].split(", ")):
        number, kind, field_name = entry.split()
        repeated = kind.endswith("*")
        if kind.startswith("map<"):
            field = map_field(message, name, field_name, kind[4:-1])
        else:
            field = typed(FieldDescriptorProto(name=field_name), kind.rstrip("*"))
            field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
        field.number = int(number)
        if name in ONE_OF:
            field.oneof_index = 0
        message.field.append(field)


def typed(field: FieldDescriptorProto, kind: str) -> FieldDescriptorProto:
    """Set the type of a field, that of a scalar, an enumeration or a message, and return it."""
    if kind in MESSAGES or kind in ENUMS:
        field.type = field.TYPE_MESSAGE if kind in MESSAGES else field.TYPE_ENUM
        field.type_name = f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    return field


def map_field(message: DescriptorProto, name: str, field_name: str, kind: str) -> FieldDescriptorProto:
    """Return a field that is a map from text to `kind`; add the message of its entries to the one that it is in."""
    entry = message.nested_type.add(name=f"{field_name.capitalize()}Entry")
    entry.options.map_entry = True
    entry.field.append(typed(FieldDescriptorProto(name="key", number=1, label=1), "string"))
    entry.field.append(typed(FieldDescriptorProto(name="value", number=2, label=1), kind))
    field = FieldDescriptorProto(name=field_name, label=FieldDescriptorProto.LABEL_REPEATED)
    field.type, field.type_name = field.TYPE_MESSAGE, f".{PACKAGE}.{name}.{entry.name}"
    return field


pool = DescriptorPool()
pool.Add(file_descriptor())


def message_class(name: str) -> Any:
    """Return the class of a message of the protocol."""
    return GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def request_class(method: str) -> Any:
    """Return the class of a method's requests."""
    return message_class(f"{method}Request")


def response_class(method: str) -> Any:
    """Return the class of a method's responses."""
    return message_class(f"{method}Response")
