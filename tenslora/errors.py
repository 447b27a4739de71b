"""Every exception and warning of tenslora, and the renderer that puts a caret under a text.

An error says what is wrong, where, and what to do. It carries a code that the documentation's error
index explains; :data:`CODES` is that index.

>>> err = SpecError("E103", "bond 'j' ends nowhere", advice="Did you mean A[r in]?",
...                 text="W[out in] = B[out r] A[r j]", span=(25, 26))
>>> print(err)
E103: bond 'j' ends nowhere
    W[out in] = B[out r] A[r j]
                             ^
  Did you mean A[r in]?
"""

from __future__ import annotations

__all__ = [
    "CODES",
    "AttachError",
    "DataError",
    "FamilyError",
    "FitError",
    "PlanError",
    "RedundantRankWarning",
    "SizeError",
    "SpecError",
    "StateError",
    "TensloraError",
    "TensloraWarning",
    "UsageError",
    "render",
]

_WINDOW = 96  # columns of a long equation shown around the caret

#: Every code with a one-line title, in order. The documentation is made from this table.
CODES: dict[str, str] = {
    # the language
    "E101": "a character that the language does not have",
    "E102": "the text is not an equation: something else was expected here",
    "E103": "a bond that ends nowhere: it occurs in one core only",
    "E104": "a feature index that no core of a term carries",
    "E105": "the same index twice in one core, or twice in the target",
    "E106": "a target without output and input",
    "E107": "a group of fewer than two indices, or a group among the sites",
    "E108": "a reserved name (eye, ones) or the target's name used as something else",
    "E109": "one core name with two different numbers of slots",
    "E110": "an equation above the limits on length and number of cores",
    "E120": "an operator on a core or index that is not there, or a name that is taken",
    "E121": "two families that do not fit together",
    "E122": "parts of an index that do not fit",
    "E123": "an index that cannot be taken out of, or put into, a core",
    "E124": "modes that are not those of the target",
    "E130": "two families whose targets differ",
    "E131": "a witness without a core, with one that is unknown, or with one twice",
    "E132": "a line of a witness that does not have the slots of its core",
    "E133": "a witness with a free index",
    "E134": "a frozen core filled from a trained one, or given what it cannot have",
    "E135": "a witness that gives another network",
    "E136": "something else where a proof is wanted",
    "E137": "a witness that makes more products than are compared",
    "E138": "an order of no families, or of two with one name",
    # sizes, ranks, budgets
    "E201": "a size or rank for a name that the equation does not have",
    "E202": "a size or rank that is missing",
    "E203": "a size that is not a positive integer",
    "E204": "two different sizes for the same thing",
    "E205": "a split whose product is not the dimension that it splits",
    "E206": "ranks that cannot be read, or are not positive integers",
    "E207": "a parameter budget below the smallest adapter of the family",
    "E208": "contradictory or unreadable ways of choosing ranks",
    "E209": "an adapter of absurd size, refused before any array is made",
    "E210": "rates of compression that cannot be read or contradict each other",
    "E211": "limits on ranks that cannot be met",
    "E212": "an estimate of memory for an optimizer or a batch that is not known",
    "E213": "the shape of a model that cannot be read",
    "W201": "a rank above what its mode can carry: the extra parameters are redundant",
    # families
    "E301": "a setting for a core that the equation does not have",
    "E302": "an unknown initialisation rule, or one with a wrong argument",
    "E303": "a start at which every gradient vanishes",
    "E304": "a start that changes the model before training",
    "E305": "an unknown scale rule, or a wrong alpha",
    "E306": "an unknown family name",
    "E307": "a family name that is taken",
    "E308": "an unknown dropout point, or a probability outside [0, 1)",
    "E309": "a seed that is not a non-negative integer",
    "E310": "two families whose settings do not go together",
    "E311": "a start from the weights that does not fit the equation or the weights",
    "E312": "a family in a wrapper where an equation is wanted",
    "E313": "an unknown wrapper, or one that does not fit the family",
    "E320": "a picture of an unknown kind",
    # adapters on models
    "E401": "an unknown mode of a plan",
    "E402": "a plan without the size of every index",
    "E403": "sites, cores or tokens of a plan that do not fit the equation",
    "E404": "a core that is missing when a plan is run",
    "E405": "a core whose shape is not what the equation wants",
    "E406": "an input whose shape is not what the equation wants",
    "E407": "a site that the equation does not have",
    "E408": "a backend that is unknown or not installed",
    "E409": "the normal form of an equation that has none",
    "E410": "a profile with numbers that no machine has",
    "E411": "a limit on memory that no order of contraction holds",
    "E412": "a profile that is unknown or cannot be read",
    "E413": "a device or dtype that cannot be measured",
    "E501": "a target that names no linear layer of the model",
    "E502": "a module that cannot carry an adapter",
    "E503": "targets, sites, rows or a dtype that cannot be read",
    "E504": "a site index that the names of the model do not tell",
    "E505": "sites that do not fill the grid of site indices",
    "E506": "sizes that do not fit the module, or a number of heads that is not known",
    "E507": "targets of several shapes, or an unknown policy for them",
    "E508": "a name of an adapter that is taken, unknown or not a name",
    "E509": "a name that torch or the model has taken",
    "E510": "an adapter that is not on a model any more",
    "E511": "merged where it may not be, or not merged where it has to be",
    "E512": "an update or a merged weight that is not finite",
    "E513": "a weight that an update cannot be merged into",
    "E514": "a module in train that cannot be trained beside the adapter",
    "E515": "a dropout that is no probability",
    "E516": "checkpointed forwards with different adapters wait for one backward",
    "E517": "an adapter that cannot be lifted to another family",
    "E518": "an adapter that a plain LoRA does not hold",
    "E519": "weights that an adapter cannot start from",
    "E520": "something that an adapter in a wrapper does not do",
    "E521": "weights or layers that a wrapper cannot work with",
    "E522": "a model that was spread over processes before it got its adapter",
    "E530": "a method of PEFT's own that has the name of this one",
    "E531": "settings of a PEFT configuration that do not go together, or name nothing",
    "E532": "modules of a PEFT adapter that are not where they were",
    "E533": "names of adapters that do not fit a mixed batch",
    "E534": "a model with adapters of another tuner, or of tenslora.attach",
    "E535": "an adapter with the name of a core",
    "E536": "cores on a tuner that nobody keeps",
    # reading JSON
    "E601": "JSON of an unknown schema version",
    "E602": "JSON with unknown or missing keys, or settings that contradict its site map",
    "E603": "JSON with a value of the wrong type",
    # checkpoints
    "E610": "a file that is missing or no whole safetensors file",
    "E611": "a safetensors file that is no adapter of tenslora",
    "E612": "tensors that are missing or unknown",
    "E613": "a tensor of another shape or dtype, or without values that are finite",
    "E614": "a tensor that is not the one that was saved",
    "E615": "a model that is not the one that the adapter was made on",
    "E616": "a file that cannot be written",
    "E617": "a file of another adapter than the one that reads it",
    "E620": "a PEFT checkpoint that is more than a plain LoRA",
    # data, models and training
    "E701": "data that is not there",
    "E702": "a file that is no table of text",
    "E703": "a column of text or labels that is not found",
    "E704": "labels that make no classes",
    "E705": "images that cannot be read",
    "E706": "a split that is missing, or too few rows for one",
    "E707": "a model that cannot be loaded or does not fit the task",
    "E709": "a setting of training or of a comparison that is out of range",
    "E710": "a package that is not installed",
    "E711": "a result that cannot be written",
    "E712": "training that diverged",
    "E713": "a comparison in which every run failed",
    "E714": "a checkpoint of a run that does not fit the run that would go on from it",
    "E715": "one of several processes where one is needed",
    "E716": "a picture that is not there to be drawn",
    "E717": "a model that cannot be cut into parts over the processes there are",
    # the command line
    "E801": "a command line that cannot be read",
    "E802": "an unknown command",
    "E803": "a word that is not the number or the name=value that is wanted there",
    "E804": "a name that is given twice, with two values",
    "E805": "a library that the command needs and that is not installed, or broken",
    "E806": "a word that nothing in the catalogue mentions",
    "E807": "a file or folder that cannot be read or written",
    "E808": "not enough memory",
    # fitting
    "E901": "a target of another shape than the equation's",
    "E902": "a target that is no array of finite numbers",
    "E903": "a family that cannot be fitted, or not in this way",
    "E904": "a fit that misses the tolerance",
    "E905": "a setting of a fit that is out of range",
    "E906": "an optimizer whose state cannot be carried over a change of ranks",
}


def render(text: str, span: tuple[int, int]) -> str:
    """Return the line of ``text`` that holds ``span`` with carets under it, indented by four.

    Examples
    --------
    >>> print(render("W[out in] = B[out r] A[r j]", (25, 26)))
        W[out in] = B[out r] A[r j]
                                 ^
    """
    start, end = max(0, min(span[0], len(text))), max(0, min(span[1], len(text)))
    begin = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", start)
    line = text[begin : len(text) if stop < 0 else stop].replace("\t", " ")
    column, width = start - begin, max(1, min(end, begin + len(line)) - start)
    if len(line) > _WINDOW:
        left = max(0, min(column - _WINDOW // 2, len(line) - _WINDOW))
        cut = line[left : left + _WINDOW]
        column, line = column - left, cut
        if left:
            column, line = column + 3, "..." + line
        width = max(1, min(width, len(line) - column))
        if left + _WINDOW < stop - begin or (stop < 0 and begin + left + _WINDOW < len(text)):
            line += "..."
    return f"    {line}\n    {' ' * column}{'^' * width}"


class TensloraError(Exception):
    """The base of every error that tenslora raises on purpose.

    Parameters
    ----------
    code : a key of :data:`CODES`.
    what : one sentence that says what is wrong, with the names and numbers.
    advice : what to do about it.
    text, span : the text that holds the mistake, and the half-open range of characters of it.

    Examples
    --------
    >>> import tenslora as tl
    >>> try:
    ...     tl.family("W[out in] = B[out r] A[s in]")
    ... except tl.TensloraError as error:
    ...     print(error)
    E103: bond 'r' ends nowhere: it occurs in one core only.
        W[out in] = B[out r] A[s in]
                          ^
      Give 'r' to a second core of the term, or drop it.
    """

    def __init__(
        self,
        code: str,
        what: str,
        *,
        advice: str = "",
        text: str | None = None,
        span: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(code, what)
        self.code = code
        self.what = what
        self.advice = advice
        self.text = text
        self.span = span

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.what}"]
        if self.text is not None and self.span is not None:
            lines.append(render(self.text, self.span))
        if self.advice:
            lines.append(f"  {self.advice}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        state = {"advice": self.advice, "text": self.text, "span": self.span}
        return (type(self), (self.code, self.what), state)


class SpecError(TensloraError, ValueError):
    """The equation is not well formed (E1xx).

    Examples
    --------
    >>> import tenslora as tl
    >>> try:
    ...     tl.parse("W[out in] = B[out r]")
    ... except SpecError as error:
    ...     print(error.code, error.what)
    E103 bond 'r' ends nowhere: it occurs in one core only.
    """


class SizeError(TensloraError, ValueError):
    """Sizes, ranks or a budget do not fit the equation (E2xx).

    Examples
    --------
    >>> import tenslora as tl
    >>> try:
    ...     tl.resolve("W[out in] = B[out r] A[r in]").bind({"out": 768}, r=8)
    ... except SizeError as error:
    ...     print(error)
    E202: missing: size of in, in W[out in] = B[out r] A[r in]
      Give in=....
    """


class FamilyError(TensloraError, ValueError):
    """A family's settings or its name are wrong (E3xx).

    Examples
    --------
    >>> import tenslora as tl
    >>> try:
    ...     tl.resolve("lroa")
    ... except FamilyError as error:
    ...     print(error)
    E306: no family is called 'lroa'
      Did you mean lora or loha or lorta? `tenslora families` lists them; an equation works too.
    """


class PlanError(TensloraError, ValueError):
    """A plan cannot be made, or is run on arrays that do not fit it (E4xx).

    Examples
    --------
    >>> from tenslora import backends
    >>> try:
    ...     backends.get("cupy")
    ... except PlanError as error:
    ...     print(error)
    E408: 'cupy' is not a backend
      The backends are numpy, torch, jax.
    """


class AttachError(TensloraError, ValueError):
    """An adapter does not fit the model, or is not in the state for the call (E5xx).

    Examples
    --------
    >>> error = AttachError("E508", "no adapter is called 'sql'", advice="It has: default.")
    >>> error.code, isinstance(error, ValueError)
    ('E508', True)
    """


class StateError(TensloraError, ValueError):
    """A checkpoint or a JSON document cannot be used (E6xx).

    Examples
    --------
    >>> import tenslora as tl
    >>> try:
    ...     tl.Family.from_json({"schema": 99})
    ... except StateError as error:
    ...     print(error)
    E601: family JSON has schema 99; this release reads schema 1
      Write it again with this release, or read it with the release that wrote it.
    """


class DataError(TensloraError, ValueError):
    """Data, a task or a model for the fine-tuning commands cannot be used (E7xx).

    Examples
    --------
    >>> from tenslora.figure import Picture
    >>> try:
    ...     Picture(None).save("curve.gif")
    ... except DataError as error:
    ...     print(error)
    E711: curve.gif has no ending of a picture
      The endings are .pdf, .png, .svg.
    """


class FitError(TensloraError, ValueError):
    """A family cannot be fitted to a target, or not closely enough (E9xx).

    Examples
    --------
    >>> import numpy as np
    >>> import tenslora as tl
    >>> try:
    ...     tl.fit("lora", np.full((2, 3, 8, 6), np.nan), ranks=1)
    ... except FitError as error:
    ...     print(error)
    E902: the target has 288 numbers that are not finite, the first at (0, 0, 0, 0)
      Find where training diverged; nothing was fitted.
    """


class UsageError(TensloraError):
    """A command line that cannot be understood (E8xx).

    Examples
    --------
    >>> from tenslora.cli.app import main
    >>> main(["no-such-command"])  # the command says E802 on standard error, and ends with 2
    2
    """


class TensloraWarning(UserWarning):
    """The base of tenslora's warnings.

    Examples
    --------
    >>> import warnings, tenslora as tl
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", tl.TensloraWarning)
    ...     lora = tl.resolve("lora")
    """


class RedundantRankWarning(TensloraWarning):
    """A rank is above what its mode can carry (W201).

    Examples
    --------
    >>> import warnings, tenslora as tl
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     lora = tl.family("W[out in] = B[out r] A[r in]", init={"B": "zeros"})
    ...     bound = lora.bind({"out": 8, "in": 6}, r=7)
    >>> told[0].category.__name__, str(told[0].message)
    ('RedundantRankWarning', 'W201: rank r=7 is above 6, all that its mode can carry ...')
    """
