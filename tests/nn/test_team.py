"""Layers that are run at once when the first of them is called: when they are, and when not.

What they give is compared with dense weights in test_product.py, there by both ways.
"""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import threading
import weakref
from collections import Counter

import peft
import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.overrides import TorchFunctionMode

import tenslora as tl
from tenslora.integrations import change_ranks
from tenslora.nn.hooks import Done
from tenslora.nn.team import _is_of

WIDTH = 32
LORA = "W[proj out in] = B[proj out r] A[proj r in]"


class Attention(nn.Module):
    """Arithmetic on three projections; ``between`` is called after each of the first two."""

    def __init__(self, between=None):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.between = between

    def forward(self, x):
        q = self.q(x)
        if self.between is not None:
            self.between(self, x)
        k = self.k(x)
        if self.between is not None:
            self.between(self, x)
        return q.sin() + 2 * k.cos() + 3 * self.v(x).tanh()


def make(model=None, ranks=2, **options):
    torch.manual_seed(0)
    model = Attention() if model is None else model
    adapter = tl.attach(model, LORA, targets=["q", "k", "v"], ranks=ranks, **options)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_()
    return model, adapter


def rows(*shape):
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(1))


def project(model, adapter, name, x):
    """What a layer gives, from the weight that the adapter says it adds."""
    layer = getattr(model, name)
    return nn.functional.linear(x, layer.weight + adapter.delta(name), layer.bias)


def expected(model, adapter, x):
    q, k, v = (project(model, adapter, name, x) for name in "qkv")
    return q.sin() + 2 * k.cos() + 3 * v.tanh()


def graph(out):
    """The nodes of a graph, each once."""
    seen, todo = set(), [out.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            todo += [following for following, _ in node.next_functions]


def names(out):
    """How often each kind of node is in a graph."""
    return Counter(node.name() for node in graph(out))


def held_at_once(out):
    """The tensors that the function keeps which runs layers at once."""
    (node,) = (node for node in graph(out) if node.name() == "JointBackward")
    return [tensor for tensor in node.saved_tensors if tensor is not None]


def nodes(out):
    """How often layers were run at once."""
    return names(out)["JointBackward"]


def close(one, two):
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(40,), (4, 10), (2, 2, 10)])
def test_three_layers_are_one_node(shape):
    model, adapter = make()
    x = rows(*shape)
    out = model(x)
    assert nodes(out) == 1
    close(out, expected(model, adapter, x))


def test_few_rows_are_added_by_plain_operations():
    model, adapter = make()
    x = rows(8)
    out = model(x)
    assert nodes(out) == 0
    close(out, expected(model, adapter, x))


def test_without_gradients_each_layer_runs_by_itself(monkeypatch):
    model, adapter = make()
    monkeypatch.setattr("tenslora.nn.team.run_joint", None)
    x = rows(40)
    with torch.no_grad():
        close(model(x), expected(model, adapter, x))


def test_no_rows():
    model, _ = make()
    model.requires_grad_(False)
    out = model(torch.empty(2, 0, WIDTH, requires_grad=True))
    assert out.shape == (2, 0, WIDTH)
    out.sum().backward()


def test_outputs_can_be_changed_in_place():
    class Model(Attention):
        def forward(self, x):
            q = self.q(x)
            q *= 2
            k = self.k(x)
            k[..., 0] = 1
            return q + k.mul_(3) + self.v(x)

    for shape in ((40,), (4, 10)):
        model, adapter = make(Model())
        x = rows(*shape)
        out = model(x)
        assert nodes(out) == 1
        q, k, v = (project(model, adapter, name, x) for name in "qkv")
        k = torch.cat([torch.ones_like(k[..., :1]), k[..., 1:]], -1)
        close(out, 2 * q + 3 * k + v)
        grads = torch.autograd.grad(out.sum(), list(adapter.parameters()))
        assert all(grad.isfinite().all() for grad in grads)


def test_what_is_kept_for_backward():
    """x once, A and A x of all layers, and of each its weight and B."""
    model, _ = make()
    x = rows(40).requires_grad_()
    found = held_at_once(model(x))
    sizes = sorted(t.numel() for t in found)
    rank = 2
    a, thin, b = 3 * rank * WIDTH, 3 * rank * 40, rank * WIDTH
    assert sizes == sorted([x.numel(), a, thin, *[WIDTH * WIDTH] * 3, *[b] * 3])
    assert any(t.data_ptr() == x.data_ptr() for t in found)
    for name in "qkv":
        assert any(t.data_ptr() == getattr(model, name).weight.data_ptr() for t in found)


def kept(out, exempt):
    """Bytes of the storages that the nodes of a graph hold."""
    exempt = {t.untyped_storage().data_ptr() for t in exempt}
    held = {}
    for node in graph(out):
        found = [getattr(node, name) for name in dir(node) if name.startswith("_saved_")]
        for tensor in (*found, *getattr(node, "saved_tensors", ())):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in exempt:
                    held[storage.data_ptr()] = storage.nbytes()
    return sum(held.values())


@pytest.mark.parametrize(
    "equation",
    [
        LORA,
        "W[proj out in] = U[in a] V[out b] P[proj c] G[a b c]",
        "W[proj out in] = U[in r] V[out r] P[proj r]",
        "W[proj out in] = U[proj in a] V[out b] G[proj a b]",
    ],
)
def test_as_much_is_kept_as_by_layers_that_run_one_by_one(equation, monkeypatch):
    torch.manual_seed(0)
    model = Attention()
    tl.attach(model, tl.family(equation, starts_nonzero=True), targets=["q", "k", "v"], ranks=2)
    x = rows(40).requires_grad_()
    exempt = [x, *model.parameters()]
    out = model(x)
    assert nodes(out) == 1
    together = kept(out, exempt)
    monkeypatch.setattr("tenslora.nn.team._PATIENCE", 0)
    out = model(x)
    assert nodes(out) == 0
    assert together == kept(out, exempt)


def test_x_is_not_kept_where_the_core_that_meets_it_is_frozen():
    family = tl.family("W[proj out in] = B[proj out r] A[r in]", frozen=("A",), starts_nonzero=True)
    model = Attention()
    tl.attach(model, family, targets=["q", "k", "v"], ranks=2)
    x = rows(40).requires_grad_()
    assert x.data_ptr() not in [tensor.data_ptr() for tensor in held_at_once(model(x))]


WATCHERS = {
    "forward hook": lambda m: m.k.register_forward_hook(lambda *a: None),
    "forward pre-hook": lambda m: m.k.register_forward_pre_hook(lambda *a: None),
    "backward hook": lambda m: m.k.register_full_backward_hook(lambda *a: None),
    "backward pre-hook": lambda m: m.k.register_full_backward_pre_hook(lambda *a: None),
    "global forward hook": lambda m: nn.modules.module.register_module_forward_hook(
        lambda *a: None
    ),
    "global forward pre-hook": lambda m: nn.modules.module.register_module_forward_pre_hook(
        lambda *a: None
    ),
    "global backward hook": lambda m: nn.modules.module.register_module_full_backward_hook(
        lambda *a: None
    ),
}


@pytest.mark.parametrize("watch", WATCHERS.values(), ids=list(WATCHERS))
def test_layers_that_others_see_run_one_by_one(watch):
    model, adapter = make()
    handle = watch(model)
    try:
        x = rows(40)
        out = model(x)
        assert nodes(out) == 0
        close(out, expected(model, adapter, x))
    finally:
        handle.remove()
    assert nodes(model(rows(40))) == 1


def test_hooks_see_the_input_of_a_layer():
    model, _ = make()
    seen = []
    model.k.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    model.v.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    x = rows(40)
    model(x)
    assert [found is x for found in seen] == [True, True]


class Watched(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.inputs = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is nn.functional.linear:
            self.inputs.append(args[0])
        return func(*args, **(kwargs or {}))


def test_modes_see_the_input_of_a_layer():
    model, _ = make()
    x = rows(40)
    with Watched() as mode:
        out = model(x)
    assert nodes(out) == 0
    assert sum(found is x for found in mode.inputs) >= 3


def test_a_linear_that_was_replaced_is_called(monkeypatch):
    model, _ = make()
    x = rows(40)
    linear = nn.functional.linear
    calls = []
    monkeypatch.setattr(nn.functional, "linear", lambda *args: calls.append(args) or linear(*args))
    out = model(x)
    assert nodes(out) == 0
    assert len(calls) >= 3
    monkeypatch.undo()
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: forward(self, x) + 1)
    assert nodes(model(x)) == 0


def test_layers_that_are_trained_or_patched_run_one_by_one():
    x = rows(40)
    model, _ = make()
    model.v.bias.requires_grad_()
    out = model(x)
    assert nodes(out) == 0
    (grad,) = torch.autograd.grad(out.sum(), [model.v.bias])
    assert grad.abs().sum() > 0
    model.v.bias.requires_grad_(False)
    model.k.forward = lambda x: nn.functional.linear(x, model.k.weight, model.k.bias)
    assert nodes(model(x)) == 0
    del model.k.forward
    assert nodes(model(x)) == 1
    model.v.double()
    with pytest.raises(RuntimeError, match="dtype"):
        model(x)


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("first", [True, False])
def test_pruned_layers(name, first):
    """torch makes such a tensor anew in a hook of its own, and has it no longer as a parameter."""
    model = Attention()
    if first:
        prune.random_unstructured(model.k, name, 0.5)
    model, adapter = make(model)
    if not first:
        prune.random_unstructured(model.k, name, 0.5)
    x = rows(40)
    model.k(x)  # makes the tensor, which the reference reads
    for few in (4, 40):
        close(model(x[:few]), expected(model, adapter, x[:few]))
    with torch.no_grad():
        close(model(x), expected(model, adapter, x))


def test_the_layers_own_error_for_rows_of_another_width():
    model, _ = make()
    bare = Attention()
    messages = []
    for one in (model, bare):
        with pytest.raises(RuntimeError) as found:
            one(torch.randn(40, WIDTH + 1))
        messages.append(str(found.value))
    assert messages[0] == messages[1]


class Cross(nn.Module):
    """Queries of x, keys and values of another tensor: names do not tell."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        y = x.flip(0)
        return self.q(x).sin() + 2 * self.k(y).cos() + 3 * self.v(y).tanh()


def test_what_nobody_comes_for_is_made_three_times_and_no_more(monkeypatch):
    import tenslora.nn.team as team

    calls = []
    run = team.run_joint
    monkeypatch.setattr(team, "run_joint", lambda *args: calls.append(1) or run(*args))
    model, adapter = make(Cross())
    x = rows(40)
    y = x.flip(0)
    found = [project(model, adapter, n, t) for n, t in zip("qkv", (x, y, y), strict=True)]
    for _ in range(5):
        close(model(x), found[0].sin() + 2 * found[1].cos() + 3 * found[2].tanh())
    assert len(calls) == 3


class Now(Attention):
    """Leaves keys and values out where it is told to."""

    alone = False

    def forward(self, x):
        return self.q(x) if self.alone else super().forward(x)


def test_layers_that_are_left_out_now_and_then(monkeypatch):
    model, _ = make(Now())
    x = rows(40)
    for _ in range(4):  # seldom
        for model.alone in (True, False, False, False):
            assert nodes(model(x)) == 1
    for _ in range(8):  # every other time: it ends
        for model.alone in (True, False):
            out = model(x)
    assert nodes(out) == 0


@pytest.mark.parametrize("few", [4, 40])
def test_x_that_is_to_get_a_gradient_from_the_second_layer_on(few):
    x = rows(few)
    model, adapter = make(Attention(lambda model, x: x.requires_grad_()))
    (found,) = torch.autograd.grad(model(x).sum(), [x])
    _, k, v = (project(model, adapter, n, x) for n in "qkv")
    (want,) = torch.autograd.grad((2 * k.cos() + 3 * v.tanh()).sum(), [x])
    close(found, want)


def _scale(model, x):
    with torch.no_grad():
        model.k.weight.mul_(2)


def _shift(model, x):
    with torch.no_grad():
        model.v.bias.add_(1)


def _replace(model, x):
    model.k.weight = nn.Parameter(2 * model.k.weight.detach(), requires_grad=False)


def _rebias(model, x):
    model.v.bias = nn.Parameter(model.v.bias.detach() + 1, requires_grad=False)


def _patch(model, x):
    model.v.forward = lambda x: nn.functional.linear(x, 2 * model.v.weight, model.v.bias)


def _hook(model, x):
    model.v.register_forward_hook(lambda module, args, out: out + args[0].sum())


@pytest.mark.parametrize("change", [_scale, _shift, _replace, _rebias, _patch, _hook])
def test_layers_that_change_between_two_calls(change, monkeypatch):
    """As they do without running at once."""
    outs = []
    for patience in (6, 0):
        monkeypatch.setattr("tenslora.nn.team._PATIENCE", patience)
        torch.manual_seed(1)
        model, _ = make(Attention(change))
        outs.append(model(rows(40)))
        assert nodes(outs[-1]) == (patience > 0)
    close(*outs)


class Around(nn.Module):
    """Something around the call of one layer."""

    def __init__(self, layer, what):
        super().__init__()
        self.layer, self.what = [layer], what

    def forward(self, x):
        with self.what():
            return self.layer[0](x)


@pytest.mark.parametrize(
    "what", [Watched, torch._C.DisableTorchFunctionSubclass, torch._C.DisableTorchFunction]
)
@pytest.mark.parametrize("everywhere", [True, False])
def test_where_arguments_are_not_asked(what, everywhere):
    model, adapter = make()
    x = rows(40)
    want = expected(model, adapter, x)
    if everywhere:
        with what():
            close(model(x), want)
        return
    k = model.k
    del model._modules["k"]
    model.__dict__["k"] = Around(k, what)
    close(model(x), want)


def test_a_layer_that_is_never_called_may_have_no_weight():
    class Model(Attention):
        def forward(self, x):
            return self.q(x).sin() + self.v(x).tanh()

    model, _ = make(Model())
    model.k.weight.data = torch.empty(0)
    assert nodes(model(rows(40))) == 0


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_tensors_that_were_made_in_inference_mode(name):
    """Autograd counts no changes of those."""
    torch.manual_seed(0)
    model = Attention()
    with torch.inference_mode():
        made = nn.Parameter(getattr(model.k, name).detach().clone(), requires_grad=False)
    setattr(model.k, name, made)
    model, _ = make(model)
    model.q.weight.requires_grad_(False)
    if name == "weight":
        with pytest.raises(RuntimeError, match=r"[Ii]nference tensors"):
            model(rows(40))  # torch's own
        return
    assert nodes(model(rows(40))) == 0


def test_hooks_that_were_cleared():
    model, adapter = make()
    model.k._forward_hooks.clear()
    x = rows(40)
    q, v = (project(model, adapter, n, x) for n in "qv")
    k = nn.functional.linear(x, model.k.weight, model.k.bias)
    close(model(x), q.sin() + 2 * k.cos() + 3 * v.tanh())


def test_nothing_is_held_longer_than_it_is_needed():
    model, adapter = make()
    k, weight = weakref.ref(model.k), weakref.ref(model.q.weight)
    model.k = nn.Linear(WIDTH, WIDTH)
    gc.collect()
    assert k() is None
    loss = model(rows(40)).sum()
    loss.backward()
    del model, adapter
    gc.collect()
    assert weight() is None
    assert loss.isfinite()


def test_cores_are_freed_without_a_search_for_cycles():
    model, adapter = make()
    model(rows(40)).sum().backward()
    team = weakref.ref(next(iter(adapter.hooks.values())).start.team)
    gc.collect()
    gc.disable()
    try:
        adapter.detach()
        adapter.hooks.clear()
        assert team() is None
    finally:
        gc.enable()


def test_a_wrapper_is_not_taken_for_the_forward_of_torch():
    @functools.wraps(nn.Linear.forward)
    def forward(self, x):
        return nn.functional.linear(x + 1, self.weight, self.bias)

    assert forward.__module__ == nn.Linear.__module__
    assert not _is_of(forward, nn.modules.linear)
    assert _is_of(nn.Linear.forward, nn.modules.linear)


def test_x_that_is_changed_in_place_between_two_layers():
    model, adapter = make(Attention(lambda model, x: x.mul_(2)))
    x = rows(40)
    start = x.clone()
    out = model(x)
    q, k, v = (project(model, adapter, p, n * start) for n, p in ((1, "q"), (2, "k"), (4, "v")))
    close(out, q.sin() + 2 * k.cos() + 3 * v.tanh())


def test_dropout_that_ends_between_two_layers():
    """Of q some entries were dropped, of k and v none."""
    model, adapter = make(Attention(lambda model, x: model.eval() and None), dropout=0.5)
    x = rows(40)
    model.train()
    out = model(x)
    with torch.no_grad():
        q, k, v = (project(model, adapter, p, x) for p in "qkv")
        rest = out - 2 * k.cos() - 3 * v.tanh()
    assert (rest.abs() <= 1 + 1e-4).all()  # a sine
    assert (rest - q.sin()).abs().max() > 0.1


def test_switched_off_between_two_layers():
    class Model(Attention):
        def forward(self, x):
            q = self.q(x)
            with tl.active(self, []):
                k = self.k(x)
            return q.sin() + 2 * k.cos() + 3 * self.v(x).tanh()

    model, adapter = make(Model())
    x = rows(40)
    q, v = (project(model, adapter, n, x) for n in "qv")
    k = nn.functional.linear(x, model.k.weight, model.k.bias)
    close(model(x), q.sin() + 2 * k.cos() + 3 * v.tanh())


def test_gradients_switched_off_between_two_layers():
    class Model(Attention):
        def forward(self, x):
            q = self.q(x)
            with torch.no_grad():
                k = self.k(x)
            assert not k.requires_grad
            return q.sin() + 2 * k.cos() + 3 * self.v(x).tanh()

    model, adapter = make(Model())
    x = rows(40)
    close(model(x), expected(model, adapter, x))


def test_another_layer_in_the_place_of_one():
    model, adapter = make()
    x = rows(40)
    deltas = {n: adapter.delta(n) for n in "qv"}
    model.k = nn.Linear(WIDTH, WIDTH)
    k = model.k(x)
    for _ in range(3):
        out = model(x)
    q, v = (
        nn.functional.linear(x, getattr(model, n).weight + deltas[n], getattr(model, n).bias)
        for n in "qv"
    )
    close(out, q.sin() + 2 * k.cos() + 3 * v.tanh())


def test_copies_run_their_own_layers():
    model, adapter = make()
    x = rows(40)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(2)
        out = other(x)
        assert nodes(out) == 1
        (its,) = tl.adapters(other).values()
        close(out, expected(other, its, x))
    close(model(x), expected(model, adapter, x))


def test_replicas_run_their_own_layers():
    """As nn.DataParallel makes them: modules whose dict is a copy, with hooks of the original."""
    model, adapter = make()
    replicas = {
        name: module._replicate_for_data_parallel() for name, module in model.named_modules()
    }
    for name, replica in replicas.items():
        for child in replica._modules:
            replica._modules[child] = replicas[f"{name}.{child}" if name else child]
        for key, parameter in model.get_submodule(name)._parameters.items():
            setattr(replica, key, parameter.detach() * 2)
    x = rows(40)
    out = replicas[""](x)
    q, k, v = (
        nn.functional.linear(x, 2 * layer.weight + adapter.delta(n), 2 * layer.bias)
        for n, layer in ((n, getattr(model, n)) for n in "qkv")
    )
    close(out, q.sin() + 2 * k.cos() + 3 * v.tanh())


def test_two_adapters():
    model, one = make()
    two = tl.attach(model, LORA, targets=["q", "k", "v"], ranks=3, name="two")
    with torch.no_grad():
        for parameter in two.parameters():
            parameter.normal_()
    x = rows(40)
    for adapter in (one, two):
        with tl.active(model, adapter.name):
            out = model(x)
            assert nodes(out) == 1
            close(out, expected(model, adapter, x))
    with tl.active(model, [one.name, two.name]):
        out = model(x)
        assert nodes(out) == 0
    q, k, v = (
        nn.functional.linear(x, layer.weight + one.delta(n) + two.delta(n), layer.bias)
        for n, layer in ((n, getattr(model, n)) for n in "qkv")
    )
    close(out, q.sin() + 2 * k.cos() + 3 * v.tanh())
    two.detach()
    with tl.active(model, one.name):
        assert nodes(model(x)) == 1


def test_a_forward_that_was_broken_off():
    class Model(Attention):
        broken = False

        def forward(self, x):
            q = self.q(x)
            if self.broken:
                raise KeyError("broken")
            return q.sin() + 2 * self.k(x).cos() + 3 * self.v(x).tanh()

    model, adapter = make(Model())
    x = rows(40)
    model.broken = True
    for _ in range(2):
        with pytest.raises(KeyError):
            model(x)
    model.broken = False
    for _ in range(2):
        close(model(x), expected(model, adapter, x))


def test_threads():
    model, adapter = make()
    inputs = [rows(40) * n for n in range(1, 5)]
    wanted = [expected(model, adapter, x) for x in inputs]
    found = [[] for _ in inputs]

    def work(n):
        for _ in range(20):
            found[n].append(model(inputs[n]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outs, want in zip(found, wanted, strict=True):
        assert len(outs) == 20
        for out in outs:
            close(out, want)


def test_another_stream_is_another_moment(monkeypatch):
    """Of a GPU: what one stream has made may not be ready in another."""
    model, adapter = make()
    moments = iter(range(100))
    monkeypatch.setattr("tenslora.nn.team.moment_of", lambda x: next(moments))
    x = rows(40)
    for _ in range(3):
        out = model(x)
        close(out, expected(model, adapter, x))
        assert names(out)["AddBackward"] >= 2  # of the layers that did not take what was ready


def test_after_merging_attaching_again_and_fewer_ranks():
    model, adapter = make(ranks=3)
    x = rows(40)
    want = expected(model, adapter, x)
    adapter.merge()
    out = model(x)
    assert nodes(out) == 0
    close(out, want)
    adapter.unmerge()
    out = model(x)
    assert nodes(out) == 1
    close(out, want)
    change_ranks(adapter, 2)
    out = model(x)
    assert nodes(out) == 1
    close(out, expected(model, adapter, x))
    adapter.detach()
    _, again = make(model)
    out = model(x)
    assert nodes(out) == 1
    close(out, expected(model, again, x))


def test_the_tuner_after_an_adapter_of_the_same_name_and_in_a_copy():
    model = tuned()
    x = rows(40)
    config = tl.TensLoraConfig(family=LORA, ranks=3, target_modules=["q", "k", "v"])
    model.add_adapter("other", config)
    model.set_adapter("other")
    model.delete_adapter("default")
    model.add_adapter("default", config)
    model.set_adapter("default")
    for one in (model, copy.deepcopy(model)):
        with torch.no_grad():
            for name, parameter in one.named_parameters():
                if "tenslora" in name:
                    parameter.normal_()
        base = one.base_model.model
        q, k, v = (tuned_output(layer, ["default"], x) for layer in (base.q, base.k, base.v))
        out = one(x)
        assert nodes(out) == 1
        close(out, q.sin() + 2 * k.cos() + 3 * v.tanh())
    want = model(x)
    base = model.base_model.model
    base.k.base_layer = copy.deepcopy(base.k.base_layer)
    for _ in range(3):
        close(model(x), want)
    merged = model.merge_and_unload()
    close(merged(x), want)


def test_nothing_is_left_after_detach():
    model, adapter = make()
    adapter.detach()
    for name in "qkv":
        layer = getattr(model, name)
        assert not layer._forward_pre_hooks
        assert not layer._forward_hooks
        assert "forward" not in layer.__dict__


def test_done_is_handed_on_by_torch():
    out = torch.ones(2, 3)
    assert nn.functional.linear(Done(out), torch.ones(3, 4), None) is out
    assert nn.Linear(4, 3)(Done(out)) is out
    with pytest.raises(TypeError, match="no implementation found"):
        nn.functional.relu(Done(out))


def tuned(**options):
    torch.manual_seed(0)
    config = tl.TensLoraConfig(family=LORA, ranks=2, target_modules=["q", "k", "v"], **options)
    model = peft.get_peft_model(Attention(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "tenslora" in name:
                parameter.normal_()
    return model


def tuned_output(layer, names, x):
    """What a layer of the tuner gives, from the weights that it says its adapters add."""
    base = layer.base_layer
    weight = base.weight + sum(layer.get_delta_weight(name) for name in names)
    return nn.functional.linear(x, weight, base.bias)


def test_the_tuner_of_peft_runs_them_at_once():
    model = tuned()
    x = rows(40)
    out = model(x)
    assert nodes(out) == 1
    base = model.base_model.model
    q, k, v = (tuned_output(layer, ["default"], x) for layer in (base.q, base.k, base.v))
    want = q.sin() + 2 * k.cos() + 3 * v.tanh()
    close(out, want)
    with model.disable_adapter():
        bare = model(x)
    plain = [
        nn.functional.linear(x, m.base_layer.weight, m.base_layer.bias)
        for m in (base.q, base.k, base.v)
    ]
    close(bare, plain[0].sin() + 2 * plain[1].cos() + 3 * plain[2].tanh())
    base.k.merge()
    mixed = model(x)
    close(mixed, want)
    base.k.unmerge()
    close(model(x), want)


def test_the_tuner_with_two_adapters():
    model = tuned()
    config = tl.TensLoraConfig(family=LORA, ranks=3, target_modules=["q", "k", "v"])
    model.add_adapter("two", config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "tenslora" in name:
                parameter.normal_()
    x = rows(40)
    base = model.base_model.model

    def want(names):
        q, k, v = (tuned_output(layer, names, x) for layer in (base.q, base.k, base.v))
        return q.sin() + 2 * k.cos() + 3 * v.tanh()

    for name in ("default", "two"):
        model.set_adapter(name)
        out = model(x)
        assert nodes(out) == 1
        close(out, want([name]))
    model.base_model.set_adapter(["default", "two"])
    out = model(x)
    assert nodes(out) == 0
    close(out, want(["default", "two"]))
    model.set_adapter("default")
    base.k.set_adapter(["two"])  # layers need not agree
    deltas = {base.q: "default", base.k: "two", base.v: "default"}
    q, k, v = (tuned_output(layer, [name], x) for layer, name in deltas.items())
    for _ in range(3):
        close(model(x), q.sin() + 2 * k.cos() + 3 * v.tanh())
