"""Which kind of multimodal model a task wants, as data: questions, and reasons with the answers that they follow from.

Three paradigms: two towers that meet in a dot product (CLIP), a language model that attends to what a vision encoder
saw (Flamingo, LLaVA), one sequence of all modalities (Gemini). `vla.paradigms.recommending` weighs the reasons;
`vla.paradigms.comparing` measures what `COMPARISON` says. One more reason is one entry here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TWO_TOWER, FUSION, UNIFIED = "two-tower", "fusion", "unified"
ANY = "any"
"""For a multimodal model at all, whichever it is."""
FLAMINGO, LLAVA = "flamingo", "llava"
PARADIGMS = {
    TWO_TOWER: "contrastive two-tower (CLIP, SigLIP)",
    FUSION: "cross-attention fusion (Flamingo, LLaVA)",
    UNIFIED: "unified embedding (Gemini)",
}
"""In the order of what they cost to run, the cheapest first."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question about a task, and what can be answered: several where ``several``."""

    text: str
    choices: Mapping[str, str]
    several: bool = False


QUESTIONS: dict[str, Asked] = {
    "makes": Asked(
        text="What must come out?",
        choices={
            "matches": "the entries of a catalogue that fit a text or a picture",
            "classes": "one of some named classes",
            "backbone": "features, for another model",
            "answers": "answers to questions about pictures",
            "captions": "descriptions of pictures or video",
            "documents": "what charts, diagrams and screenshots say",
            "reports": "structured reports of what a picture shows",
            "actions": "commands of a robot or another agent",
            "anything": "several modalities: text, pictures and actions from each other",
        },
        several=True,
    ),
    "joins": Asked(
        text="What has to be worked out from several modalities together?",
        choices={
            "nothing": "nothing: each alone, then simple rules",
            "grounding": "which region or span is meant",
            "evidence": "what no modality says alone",
            "spatial": "where things are to each other, and how many",
            "composition": "who does what to whom, which colour is whose",
            "steps": "conclusions over several steps",
        },
        several=True,
    ),
    "alignment": Asked(
        text="How finely do pictures and words belong together?",
        choices={
            "global": "a whole picture and a whole sentence",
            "region": "a region and a phrase",
            "token": "every patch or frame and every word",
        },
    ),
    "pairs": Asked(
        text="How many pairs of picture and text are there?",
        choices={
            "none": "none: pictures without text, text without pictures",
            "few": "under a million",
            "millions": "millions",
            "web": "hundreds of millions and more",
        },
    ),
    "balance": Asked(
        text="Is there much more of one modality?",
        choices={"even": "about as much of each", "text": "ten times more text than pictures", "diverse": "many kinds"},
    ),
    "latency": Asked(
        text="How soon must an answer be there?",
        choices={"strict": "within 10 ms", "moderate": "within a second", "free": "quality matters more"},
    ),
    "catalogue": Asked(
        text="How much is searched?",
        choices={"none": "nothing", "thousands": "thousands of items", "millions": "millions of items"},
    ),
    "starts": Asked(
        text="What is there to begin with?",
        choices={
            "nothing": "nothing that is trained",
            "encoders": "a pretrained vision encoder",
            "language-model": "a strong language model, which should stay as it is",
        },
    ),
    "compute": Asked(
        text="How much compute is there for training?",
        choices={"small": "little", "moderate": "some", "massive": "a data centre"},
    ),
    "wants": Asked(
        text="What matters most?",
        choices={
            "efficiency": "what it costs to train and to run",
            "balance": "a good balance of quality and cost",
            "capability": "the most that can be had",
        },
    ),
    "pictures": Asked(
        text="How many pictures does one answer look at?",
        choices={"one": "one", "several": "several, or a video"},
    ),
    "weights": Asked(text="Must the model be open?", choices={"open": "yes", "any": "no"}),
}
"""What is asked of a task, in this order."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Something that speaks for a paradigm, or against it, and when."""

    about: str
    """A paradigm, `ANY`, or one of the two styles of fusion."""
    text: str
    when: tuple[str, ...]
    """``question=answer``: it applies as soon as one of them was answered."""
    against: bool = False
    excludes: bool = False
    """Against: and so much that the paradigm cannot do the task."""

    def applies(self, answers: Mapping[str, Sequence[str]]) -> bool:
        """Whether it follows from what was answered, by question."""
        return any(answer in answers.get(question, ()) for question, answer in self.conditions)

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """Pairs of a question and an answer."""
        return [(question, answer) for question, _, answer in (one.partition("=") for one in self.when)]


def _for(about: str, text: str, *when: str) -> Reason:
    return Reason(about=about, text=text, when=when)


def _against(about: str, text: str, *when: str) -> Reason:
    return Reason(about=about, text=text, when=when, against=True)


def _excludes(about: str, text: str, *when: str) -> Reason:
    return Reason(about=about, text=text, when=when, against=True, excludes=True)


_TEXT = ("makes=answers", "makes=captions", "makes=documents", "makes=reports")
_NEEDS_PAIRS = "contrastive models need hundreds of millions of pairs: CLIP saw 400 million, SigLIP billions"
REASONS: dict[str, tuple[Reason, ...]] = {
    "decision": (
        _for(TWO_TOWER, "fast retrieval across millions of items", "catalogue=millions"),
        _for(TWO_TOWER, "zero-shot classification without training is sufficient", "makes=classes"),
        _for(TWO_TOWER, "a vision backbone for a downstream model", "makes=backbone"),
        _for(TWO_TOWER, "hundreds of millions of image-text pairs", "pairs=web"),
        _for(TWO_TOWER, "latency constraints are strict: under 10 ms a query", "latency=strict"),
        _for(FUSION, "text is generated conditioned on images: questions answered, captions", *_TEXT),
        _for(FUSION, "vision is added to a language model without retraining it", "starts=language-model"),
        _for(FUSION, "limited paired data: under a million examples", "pairs=few"),
        _for(FUSION, "a good balance of quality and training cost", "wants=balance"),
        _for(FUSION, "fine-grained spatial understanding matters", "joins=spatial"),
        _for(UNIFIED, "any-to-any generation: text, image, action", "makes=anything"),
        _for(UNIFIED, "complex multi-step reasoning across modalities", "joins=steps"),
        _for(UNIFIED, "an embodied agent: robot, game AI", "makes=actions"),
        _for(UNIFIED, "massive compute and diverse multimodal data", "compute=massive", "balance=diverse"),
        _for(UNIFIED, "maximum capability matters more than efficiency", "wants=capability"),
    ),
    "signals": (
        _for(ANY, "cross-modal grounding: a concept in one modality is a region or span of another", "joins=grounding"),
        _for(ANY, "multi-modal generation: the output is of another modality than the input", *_TEXT, "makes=anything"),
        _for(ANY, "retrieval across modalities: a query in one, matches in another", "makes=matches"),
        _for(ANY, "complementary evidence: each modality gives a part that must be integrated", "joins=evidence"),
        _against(ANY, "each modality can be handled alone and combined by simple rules", "joins=nothing"),
    ),
    "data": (
        _for(TWO_TOWER, "paired data enables contrastive learning", "pairs=web", "pairs=millions"),
        _for(FUSION, "paired data enables supervised fusion", "pairs=few", "pairs=millions"),
        _for(ANY, "pairs of the web are noisy: the quality of pairing matters enormously", "pairs=web"),
        _for(FUSION, "unpaired data pretrains the encoders; a projection trained on fewer pairs bridges", "pairs=none"),
        _against(TWO_TOWER, _NEEDS_PAIRS, "pairs=none", "pairs=few", "pairs=millions"),
        _for(FUSION, "frozen backbones need few pairs: LLaVA-1.5 was tuned on 665 thousand", "pairs=few"),
        _for(FUSION, "a frozen language model uses the text that there is more of", "balance=text"),
        _against(TWO_TOWER, "two towers cannot use text that has no picture", "balance=text"),
        _for(TWO_TOWER, "global alignment: whole image to whole sentence", "alignment=global"),
        _for(FUSION, "region-level alignment needs cross-attention or region features", "alignment=region"),
        _for(UNIFIED, "token-level alignment needs dense fusion", "alignment=token"),
        _for(TWO_TOWER, "each modality is encoded once and compared by a dot product", "latency=strict"),
        _for(FUSION, "more compute a query than two towers, and a richer understanding", "latency=moderate"),
        _for(UNIFIED, "appropriate where quality matters more than latency", "latency=free"),
        _against(UNIFIED, "most expensive at inference", "latency=strict"),
    ),
    "uses": (
        _for(TWO_TOWER, "zero-shot: no training for new categories", "makes=classes"),
        _for(
            TWO_TOWER,
            "cross-modal retrieval: embeddings are there before, neighbours found at once",
            "makes=matches",
        ),
        _for(TWO_TOWER, "its vision encoder serves as the eyes of other models", "makes=backbone"),
        _for(FUSION, "visual questions: grounding and spatial understanding", "makes=answers"),
        _for(FUSION, "captions: detailed text about visual content", "makes=captions"),
        _for(FUSION, "documents: charts, diagrams and screenshots with questions", "makes=documents"),
        _for(FUSION, "an existing language model gains vision", "starts=language-model"),
        _for(FUSION, "only the projection and adapters are trained", "starts=encoders", "pairs=few"),
        _for(UNIFIED, "several modalities are generated, interleaved", "makes=anything"),
        _for(UNIFIED, "problems with diagrams, visual reasoning in several steps", "joins=steps"),
        _for(UNIFIED, "vision, language and action in a single model", "makes=actions"),
        _for(UNIFIED, "there is compute and data at the scale that it needs", "compute=massive"),
    ),
    "limits": (
        _against(
            TWO_TOWER, "one vector a modality: no spatial relations, no counting", "joins=spatial", "joins=grounding"
        ),
        _excludes(TWO_TOWER, "no generation: it embeds, it writes nothing", *_TEXT, "makes=anything"),
        _against(TWO_TOWER, "a bag of concepts: a dog bites a man as a man bites a dog", "joins=composition"),
        _excludes(FUSION, "not for retrieval: a query runs through both for each item", "catalogue=millions"),
        _excludes(UNIFIED, "not for retrieval: a query runs through the whole for each item", "catalogue=millions"),
        _against(UNIFIED, "attention over all tokens is quadratic in them", "wants=efficiency", "compute=small"),
        _against(UNIFIED, "losses of several modalities have to be balanced", "makes=anything"),
        _against(UNIFIED, "the most capable ones are not open", "weights=open"),
    ),
    "cases": (
        _for(TWO_TOWER, "product search: the catalogue is embedded before, the query when it comes", "makes=matches"),
        _for(FUSION, "reports of medical pictures: a frozen encoder, a language model that attends", "makes=reports"),
        _for(UNIFIED, "manipulation from instructions: pictures and words in one sequence", "makes=actions"),
    ),
    "style": (
        _for(
            FLAMINGO,
            "cross-attention layers of its own, beside the language model's",
            "wants=capability",
        ),
        _for(LLAVA, "the language model stays as it is: no layer is inserted", "starts=language-model"),
        _for(FLAMINGO, "a fixed number of visual tokens, 64, whatever the picture", "latency=strict"),
        _for(LLAVA, "every patch is a token: nothing is compressed away", "joins=spatial", "alignment=region"),
        _for(FLAMINGO, "several pictures, interleaved with text", "pictures=several"),
        _for(LLAVA, "lower training cost: a projection alone", "compute=small", "wants=efficiency", "pairs=few"),
        _for(FLAMINGO, "lower inference cost: fewer visual tokens", "latency=moderate", "latency=strict"),
    ),
}
"""By what they are about. ``style`` decides between the two ways of fusing, and only where fusion is the answer."""
WEIGHTS = {"decision": 2.0, "signals": 0.0, "data": 1.0, "uses": 1.0, "limits": 1.0, "cases": 1.0, "style": 1.0}
"""What one reason counts. Signals say whether a multimodal model is wanted, not which."""

COMPARISON: dict[str, dict[str, str]] = {
    "Interaction depth": {
        TWO_TOWER: "None: dot product only",
        FUSION: "Medium: cross-attention layers",
        UNIFIED: "Deep: full self-attention",
    },
    "Training data needed": {
        TWO_TOWER: "400M+ pairs",
        FUSION: "600K to 2M (fine-tune)",
        UNIFIED: "Billions (end-to-end)",
    },
    "Retrieval speed": {
        TWO_TOWER: "Sub-ms (precomputed)",
        FUSION: "Not applicable",
        UNIFIED: "Not applicable",
    },
    "Generation quality": {
        TWO_TOWER: "No generation",
        FUSION: "Good text generation",
        UNIFIED: "Best: any-to-any",
    },
    "Spatial reasoning": {TWO_TOWER: "Weak", FUSION: "Good", UNIFIED: "Best"},
    "Compositionality": {TWO_TOWER: "Weak (bag of concepts)", FUSION: "Good", UNIFIED: "Best"},
    "Training cost": {TWO_TOWER: "Moderate", FUSION: "Low (frozen backbone)", UNIFIED: "Extreme"},
    "Open models": {
        TWO_TOWER: "CLIP, SigLIP, OpenCLIP",
        FUSION: "LLaVA, PaliGemma, Qwen-VL",
        UNIFIED: "Chameleon (limited)",
    },
    "Best for": {
        TWO_TOWER: "Retrieval, zero-shot, backbones",
        FUSION: "VQA, captioning, document AI",
        UNIFIED: "General-purpose reasoning",
    },
}
"""What is commonly said of the three, by dimension: each cell is put beside a measurement and judged by a rule."""
CHAIN = (TWO_TOWER, FUSION, UNIFIED)
"""Each builds on the one before: contrastive pretraining, fusion, training end to end."""
