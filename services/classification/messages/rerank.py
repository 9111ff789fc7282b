"""Messages of Rerank."""

from naiad.v1 import classification_pb2 as pb

from services.classification.messages.common import fill_timings, item_status
from services.classification.rerank_logic import Reranked, RerankOptions


def read_options(request: pb.RerankRequest) -> RerankOptions:
    """How the request wants its documents ordered."""
    return RerankOptions(
        top_k=request.top_k if request.HasField("top_k") else None,
        return_documents=request.return_documents,
        truncate=request.truncate,
    )


def response(request: pb.RerankRequest, reranked: Reranked) -> pb.RerankResponse:
    """The answer."""
    message = pb.RerankResponse(
        method=pb.SCORING_METHOD_CROSS_ENCODER if reranked.cross_encoder else pb.SCORING_METHOD_EMBEDDING
    )
    for index, score in reranked.ranked:
        document = request.documents[index] if request.return_documents else None
        message.results.add(index=index, score=score, document=document)
    for index, error in reranked.errors:
        message.errors.add(index=index, error=item_status(error))
    fill_timings(message.timings, reranked.timings)
    return message
