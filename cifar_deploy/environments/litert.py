"""LiteRT's converter, quantiser and runtime. The converter wants older typing_extensions and pydantic than others do."""

from cifar_deploy.core.environment import Environment

# The batch in the record of a file that the runtime cannot resize: such a file takes image by image.
IMAGE_BY_IMAGE = "1, image by image"

ENVIRONMENT = Environment(
    name="litert",
    summary="LiteRT's converter, quantiser and runtime",
    packages=("litert-torch==0.10.0", "ai-edge-quantizer==0.10.0", "ai-edge-litert==2.3.0"),
    brings=("litert_torch", "ai_edge_quantizer", "ai_edge_litert"),
)
