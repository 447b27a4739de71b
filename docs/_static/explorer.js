/* The explorer. Families of the list come described (explorer-families.js); of these only numbers
   are computed here. An equation of the reader's own is read, drawn and planned by tenslora itself,
   in Pyodide, which is loaded when it is first wanted. */
(() => {
  const root = document.querySelector(".tlx");
  if (!root || !window.tensloraFamilies) return;
  const at = (id) => document.getElementById(`tlx-${id}`);
  const families = window.tensloraFamilies;
  const home = `https://cdn.jsdelivr.net/npm/pyodide@${root.dataset.pyodide}/`;
  const number = (n) => n.toLocaleString("en");
  const say = {
    idle: "Choose a family and change its sizes: that is computed here. Changing an equation, or a "
      + "start, loads Python into this page once (6 MB, from cdn.jsdelivr.net); nothing that you "
      + "type leaves it.",
    loading: "Loading Python into this page …",
    live: (version) => `Live: tenslora runs in this page, on Python ${version}.`,
    offline: "Offline: Python cannot be loaded from cdn.jsdelivr.net. The families of the list "
      + "work without it, with any sizes and ranks; an equation of your own does not.",
  };
  let given = {};       // sizes that the reader has typed, by index
  let literal = false;  // the reader has chosen which cores start at zero
  let asked = 0;        // the number of the last question
  let calls = 0;        // the number of messages to Python
  let timer, python, loading, failed = false;

  // --- Python ---------------------------------------------------------------------------------

  const script = (src) => new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = src;
    element.addEventListener("load", resolve);
    element.addEventListener("error", () => { element.remove(); reject(new Error(src)); });
    document.head.append(element);
  });

  // Pyodide runs in a worker, so that the page answers while it starts. The worker is made of text,
  // since a page opened by file: may not start one from an address; and so is what it imports, which
  // is checked against its digest where it is fetched.
  const address = (text) => URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  const inside = (pyodide) => `
    import { loadPyodide } from "${pyodide}";
    let explore;
    onmessage = async ({ data: { id, home, packed, request } }) => {
      try {
        if (request) return postMessage({ id, answer: explore(request) });
        const pyodide = await loadPyodide({ indexURL: home });
        pyodide.FS.writeFile("/core.zip", packed);
        explore = pyodide.runPython(
          "import sys\\nsys.path.insert(0, '/core.zip')\\nfrom explore import explore\\nexplore");
        postMessage({ id, answer: pyodide.runPython("sys.version.split()[0]") });
      } catch (error) { postMessage({ id, failed: String(error) }); }
    };`;

  const start = async () => {
    if (navigator.onLine === false) throw new Error("offline");
    const found = await fetch(`${home}pyodide.mjs`, { integrity: root.dataset.integrity });
    if (!found.ok) throw new Error(`${home}: ${found.status}`);
    if (!window.tensloraCore) await script("_static/explorer-core.js");
    const worker = new Worker(address(inside(address(await found.text()))), { type: "module" });
    const waiting = new Map();
    worker.onmessage = ({ data: { id, answer, failed: why } }) => {
      const [resolve, reject] = waiting.get(id);
      waiting.delete(id);
      if (why === undefined) resolve(answer); else reject(new Error(why));
    };
    const call = (message) => new Promise((resolve, reject) => {
      const id = ++calls;
      waiting.set(id, [resolve, reject]);
      worker.onerror = reject;
      worker.postMessage({ id, ...message });
    });
    const packed = Uint8Array.from(atob(window.tensloraCore), (c) => c.charCodeAt(0));
    const version = await call({ home, packed });
    return { version, answer: (request) => call({ request }) };
  };

  const wake = () => {
    if (python || loading) return loading;
    failed = false;
    tell(say.loading);
    loading = start().then(
      (found) => { python = found; tell(say.live(found.version)); },
      (error) => { failed = true; tell(`${say.offline} (${error.message})`); },
    ).finally(() => { loading = undefined; });
    return loading;
  };

  const tell = (text) => {
    at("state").textContent = text;
    at("again").hidden = !failed;
    root.dataset.state = python ? "live" : failed ? "offline" : loading || text === say.loading
      ? "loading" : "idle";
  };

  // --- what is asked --------------------------------------------------------------------------

  const family = () => families[at("family").value]; // none where the equation is the reader's own
  const ticked = (name) => [...at("cores").querySelectorAll(`input[name=${name}]:checked`)]
    .map((box) => box.value);

  const ask = async () => {
    clearTimeout(timer);
    const mine = ++asked;
    if (!family() && !python) await wake();
    if (mine !== asked) return;
    if (!python) { if (family()) showFamily(); else refuse(); return; }
    const request = JSON.stringify({
      family: at("family").value,
      equation: at("equation").value,
      sizes: Object.fromEntries(Object.entries(given).map(([index, text]) => [index, read(text)])),
      zero: ticked("zero"),
      frozen: ticked("frozen"),
      literal,
    });
    try {
      const answer = JSON.parse(await python.answer(request));
      if (mine === asked) show(answer);
    } catch (error) {
      fault({ text: String(error) });
    }
  };

  const soon = () => { clearTimeout(timer); timer = setTimeout(ask, 250); };
  const read = (text) => text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;

  const refuse = () => {
    fault({ text: "This equation is not one of the list, and to read it takes Python, which could\n"
      + "not be loaded. Choose a family, or try again when you are online." });
    root.dataset.stale = "";
  };

  // --- what is shown --------------------------------------------------------------------------

  const showFamily = () => {
    const known = family();
    const indices = known.indices.map((i) => ({ ...i, size: size(i) }));
    const sizes = Object.fromEntries(indices.map((i) => [i.name, i.size]));
    const wrong = indices.filter((i) => !Number.isInteger(i.size) || i.size < 1);
    const answer = { ...known, indices, notes: [] };
    delete answer.counts;
    if (wrong.length) {
      const names = wrong.map((i) => `${i.kind === "rank" ? "rank" : "size"} ${i.name}`).join(", ");
      answer.size_error = { text: `${names}: write a whole number of at least 1.` };
    } else {
      answer.counts = counted(known.cores, sizes);
    }
    show(answer);
  };

  const size = ({ name, size: usual }) => given[name] === undefined ? usual : read(given[name]);
  const entries = (core, sizes) => core.indices.reduce((n, index) => n * sizes[index], 1);
  const counted = (cores, sizes) => {
    const sum = (some) => some.reduce((n, core) => n + entries(core, sizes), 0);
    return { trained: sum(cores.filter((c) => !c.frozen)), frozen: sum(cores.filter((c) => c.frozen)) };
  };

  const show = (answer) => {
    fault(answer.error || answer.size_error);
    if (answer.error) { root.dataset.stale = ""; return; }
    delete root.dataset.stale;
    at("picture").innerHTML = answer.svg;
    at("html").innerHTML = answer.html;
    at("summary").textContent = family() ? family().summary : "";
    at("formula").innerHTML = `${answer.formula} trained parameters`;
    inputs(answer.indices);
    numbers(answer);
    cores(answer);
    notes(answer.notes);
    code(answer);
  };

  const fault = (error) => {
    const place = at("error");
    place.replaceChildren();
    at("equation").setAttribute("aria-invalid", String(Boolean(error)));
    if (!error) return;
    const words = document.createElement("pre");
    words.tabIndex = 0;
    words.textContent = error.text;
    place.append(words, ...(error.code ? [link(error.code)] : []));
  };

  const link = (code) => {
    const anchor = document.createElement("a");
    anchor.href = `errors.html#${code.toLowerCase()}`;
    anchor.textContent = `What ${code} means`;
    return anchor;
  };

  const inputs = (indices) => {
    for (const [place, wanted] of [["ranks", (i) => i.kind === "rank"],
                                   ["sizes", (i) => i.kind !== "rank"]]) {
      const field = at(place);
      const some = indices.filter(wanted);
      const names = [...field.querySelectorAll("input")].map((input) => input.name);
      field.hidden = !some.length;
      if (names.join() !== some.map((i) => i.name).join()) {
        field.querySelectorAll("label").forEach((label) => label.remove());
        field.append(...some.map(input));
      }
      for (const { name, size: value } of some) {
        const box = field.querySelector(`input[name="${name}"]`);
        if (box !== document.activeElement && given[name] === undefined) box.value = value;
      }
    }
  };

  const input = ({ name, hue, kind }) => {
    const label = document.createElement("label");
    label.className = "tenslora";
    const word = document.createElement("span");
    word.className = hue;
    word.textContent = name;
    const box = document.createElement("input");
    Object.assign(box, { type: "number", min: 1, step: 1, name, inputMode: "numeric" });
    box.setAttribute("aria-label", `${kind === "rank" ? "rank" : "size of " + kind} ${name}`);
    box.value = given[name] ?? "";
    box.addEventListener("input", () => { given[name] = box.value.trim(); soon(); });
    label.append(word, box);
    return label;
  };

  const numbers = ({ counts }) => {
    for (const name of ["trained", "frozen", "cut", "flops"]) {
      const known = counts && counts[name] !== undefined && counts[name] !== null;
      at(name).textContent = known ? number(counts[name]) : "–";
      if (at(name).parentElement.dataset.live !== undefined)
        at(name).parentElement.hidden = !python;
    }
  };

  const cores = ({ cores: list, indices, counts }) => {
    const sizes = Object.fromEntries(indices.map((i) => [i.name, i.size]));
    const held = document.activeElement && document.activeElement.id;
    at("cores").replaceChildren(...list.map((core) => {
      const row = document.createElement("tr");
      const shape = core.indices.map((index) => sizes[index]).join(" × ") || "1";
      for (const text of [core.text, counts ? shape : "–",
                          counts ? number(entries(core, sizes)) : "–"])
        row.append(Object.assign(document.createElement("td"), { textContent: text }));
      for (const name of ["zero", "frozen"]) row.append(tick(core, name));
      return row;
    }));
    if (held && held.startsWith("tlx-core-")) document.getElementById(held)?.focus();
  };

  const tick = (core, name) => {
    const cell = document.createElement("td");
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", name, value: core.name, checked: core[name],
                         id: `tlx-core-${name}-${core.name}`, disabled: failed && !python });
    box.setAttribute("aria-label", `${core.name} ${name === "zero" ? "starts at zero" : "is frozen"}`);
    box.addEventListener("change", () => { literal = true; at("family").value = ""; ask(); });
    cell.append(box);
    return cell;
  };

  const notes = (list) => at("notes").replaceChildren(...list.map((note) => {
    const item = document.createElement("li");
    const words = Object.assign(document.createElement("pre"), { textContent: note.text });
    item.append(words, link(note.code));
    return item;
  }));

  const code = ({ equation, cores: list, indices }) => {
    const quoted = (words) => words.map((word) => `"${word}"`).join(", ");
    const zeros = list.filter((c) => c.zero).map((c) => `"${c.name}": "zeros"`).join(", ");
    const frozen = list.filter((c) => c.frozen).map((c) => c.name);
    const sizes = indices.map((i) => `"${i.name}": ${i.size}`).join(", ");
    const settings = (zeros ? `, init={${zeros}}` : "") + (frozen.length ? `, frozen=[${quoted(frozen)}]` : "");
    at("code").textContent = [
      "import tenslora as tl", "",
      family() ? `family = tl.resolve("${at("family").value}")` : `family = tl.family("${equation}"${settings})`,
      `print(family.bind({${sizes}}))`,
    ].join("\n");
  };

  // --- what the reader does -------------------------------------------------------------------

  at("family").addEventListener("change", () => {
    at("equation").value = family().equation;
    ask();
  });
  at("equation").addEventListener("input", () => {
    const text = at("equation").value.trim();
    at("family").value = Object.keys(families).find((name) => families[name].equation === text) || "";
    literal = false;
    soon();
  });
  at("usual").addEventListener("click", () => { given = {}; ask(); });
  at("again").addEventListener("click", () => { failed = false; ask(); });
  at("form").addEventListener("submit", (event) => event.preventDefault());
  at("copy").addEventListener("click", async () => {
    const range = document.createRange();
    range.selectNodeContents(at("code"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    try { await navigator.clipboard.writeText(at("code").textContent); at("copy").textContent = "Copied"; }
    catch { at("copy").textContent = "Selected"; }
    setTimeout(() => { at("copy").textContent = "Copy"; }, 1500);
  });

  const wanted = new URLSearchParams(location.search).get("family");
  at("family").value = Object.hasOwn(families, wanted) ? wanted : "lora";
  at("equation").value = family().equation;
  at("form").hidden = at("found").hidden = false;
  tell(say.idle);
  ask();
})();
