// Rotatable views of GLBs that turn together. three.js comes from three.min.js as THREE.
'use strict';

// The one WebGL context of a page: browsers allow about sixteen, and a report may have more pictures than that. A pane
// is a plain canvas that the stage's picture is copied to. Null where the browser has no WebGL.
const trellisStage = (() => {
  let stage;
  return () => {
    if (stage !== undefined) return stage;
    try {
      const renderer = new THREE.WebGLRenderer({ antialias: true });
      const gl = renderer.getContext();
      const named = gl.getExtension('WEBGL_debug_renderer_info');
      const slow = named && /swiftshader|llvmpipe|software/i.test(gl.getParameter(named.UNMASKED_RENDERER_WEBGL));
      // What is reflected, blurred for every roughness: seconds of work where no GPU does it.
      const size = slow ? 64 : 256;
      const room = new THREE.PMREMGenerator(renderer).fromScene(new THREE.RoomEnvironment(), 0.04, 0.1, 100, { size }).texture;
      stage = { renderer, room };
    } catch (error) {
      stage = null;
    }
    return stage;
  };
})();

const trellisModes = (() => {
  const DOUBLE_SIDED = 2;
  // In the axes of the world, as in the report's pictures: three.js would give those of the camera.
  const normals = () => ownColour('(vec4(normal, 0.0) * viewMatrix).xyz * 0.5 + 0.5');
  const sides = () => ownColour(
    'mix(vec3(0.95, 0.25, 0.16), vec3(0.22, 0.47, 0.95), gl_FrontFacing ? 1.0 : 0.0) * (0.3 + 0.7 * abs(normal.z))');

  function ownColour(expression) {
    const material = new THREE.MeshNormalMaterial();
    material.onBeforeCompile = (shader) => {
      shader.fragmentShader = shader.fragmentShader.replace('normalize( normal ) * 0.5 + 0.5', expression);
    };
    material.customProgramCacheKey = () => expression;
    return material;
  }

  const base = (m) => new THREE.MeshBasicMaterial({
    map: m.map, color: m.color, vertexColors: m.vertexColors, transparent: m.transparent, alphaTest: m.alphaTest });
  const wires = () => new THREE.MeshBasicMaterial({ color: 0x9ecbff, wireframe: true });

  return {
    shaded: { label: 'shaded', make: (m) => m.clone(), side: (m) => m.side },
    base: { label: 'base colour', make: base, side: (m) => m.side },
    normals: { label: 'normals', make: normals, side: (m) => m.side },
    sides: { label: 'sides', make: sides, side: () => DOUBLE_SIDED, title: 'outside blue, inside red' },
    wires: { label: 'wireframe', make: wires, side: () => DOUBLE_SIDED },
    DOUBLE_SIDED,
  };
})();

// Shows `assets`, each {name, glb: URL}, in `holder`. Its `dataset.state` becomes "ready" or "failed". Returns
// {look(what)}: what is any of {azimuth, elevation} in degrees, {mode}, {cut} in 0..1, {spin}, {reset: true}.
function trellisView(holder, assets) {
  const FIELD = 30;
  const FIRST = { azimuth: 30, elevation: 23 };
  const state = { mode: 'shaded', cut: 0, spin: false };
  const element = (tag, parent, set) => Object.assign(parent.appendChild(document.createElement(tag)), set || {});
  const full = document.body.classList.contains('full');
  const bar = element('div', holder, { className: 'bar' });
  const row = element('div', holder, { className: 'view-row' });
  const panes = [];
  const target = new THREE.Vector3();
  const camera = new THREE.PerspectiveCamera(FIELD, 1, 0.01, 100); // one for all panes: they turn together
  let sphere = null;
  let pending = false;
  let last = 0;

  function makePane(asset) {
    const box = element('figure', row, { className: 'view-pane' });
    const canvas = element('canvas', box, { tabIndex: 0 });
    canvas.setAttribute('role', 'application');
    canvas.setAttribute('aria-roledescription', 'three-dimensional view');
    const caption = element('figcaption', box);
    element('b', caption, { textContent: asset.name });
    const note = element('span', caption);
    const pane = { canvas, note, asset, context: canvas.getContext('2d') };
    describe(pane, asset.name);
    return pane;
  }

  function describe(pane, text) {
    pane.canvas.setAttribute('aria-label', `${text}. Arrow keys turn it, plus and minus zoom, Home resets.`);
  }

  function fail(pane, text) {
    pane.note.textContent = text;
    pane.failed = true;
    describe(pane, `${pane.asset.name}: ${text}`);
    settle();
  }

  function settle() {
    if (panes.every((p) => p.root || p.failed)) holder.dataset.state = panes.some((p) => p.failed) ? 'failed' : 'ready';
  }

  function load(pane) {
    const stage = trellisStage();
    if (!stage) { fail(pane, 'this browser has no WebGL'); return; }
    const scene = new THREE.Scene();
    scene.background = new THREE.Color(0x2b2d33);
    scene.environment = stage.room;
    const controls = new THREE.OrbitControls(camera, pane.canvas);
    controls.target = target;
    controls.enableZoom = full; // in a report the wheel scrolls the page until a view was clicked
    pane.canvas.style.touchAction = full ? 'none' : 'pan-y';
    controls.addEventListener('change', draw);
    controls.addEventListener('start', () => { pane.canvas.focus({ preventScroll: true }); look({ spin: false }); });
    pane.canvas.addEventListener('focus', () => { controls.enableZoom = true; });
    pane.canvas.addEventListener('blur', () => { controls.enableZoom = full; });
    pane.canvas.addEventListener('keydown', key);
    Object.assign(pane, { scene, controls });
    bytes(pane.asset.glb)
      .then((data) => new Promise((done, no) => new THREE.GLTFLoader().parse(data, '', done, no)))
      .then((gltf) => show(pane, gltf.scene))
      .catch((error) => fail(pane, `cannot be shown: ${error && error.message ? error.message : error}`));
  }

  function bytes(url) {
    if (url.startsWith('data:')) {
      const text = atob(url.slice(url.indexOf(',') + 1));
      return Promise.resolve(Uint8Array.from(text, (c) => c.charCodeAt(0)).buffer);
    }
    return fetch(url).then((r) => {
      if (!r.ok) throw new Error(`the server says ${r.status} ${r.statusText}`);
      return r.arrayBuffer();
    });
  }

  function show(pane, root) {
    let faces = 0;
    root.traverse((node) => {
      if (!node.isMesh) return;
      faces += (node.geometry.index || node.geometry.attributes.position).count / 3;
      node.userData.looks = {};
      node.userData.given = node.material;
    });
    if (!faces) { fail(pane, 'no surface'); return; }
    pane.note.textContent = `${Math.round(faces).toLocaleString('en')} faces`;
    describe(pane, `${pane.asset.name}, ${pane.note.textContent}`);
    pane.root = root;
    pane.scene.add(root);
    settle();
    // All panes look at the first one's sphere, so that what moved or shrank is seen to have moved or shrunk.
    if (pane === panes.find((p) => !p.failed) || !sphere) {
      sphere = new THREE.Box3().setFromObject(root).getBoundingSphere(new THREE.Sphere());
      look({ reset: true });
    }
    apply();
  }

  // Where the camera stands: degrees around, degrees up, and how far from the target.
  function place(azimuth, elevation, away) {
    const a = azimuth * Math.PI / 180;
    const e = Math.max(-89.99, Math.min(89.99, elevation)) * Math.PI / 180;
    camera.position.set(Math.sin(a) * Math.cos(e), Math.sin(e), Math.cos(a) * Math.cos(e)).multiplyScalar(away).add(target);
    camera.lookAt(target);
    draw();
  }

  function standing() {
    const v = new THREE.Vector3().subVectors(camera.position, target);
    const away = v.length() || 1;
    return { azimuth: Math.atan2(v.x, v.z) * 180 / Math.PI, elevation: Math.asin(v.y / away) * 180 / Math.PI, away };
  }

  function whole() { // the distance from which the sphere fills the narrower side of a pane
    const half = FIELD / 2 * Math.PI / 180;
    const narrow = Math.atan(Math.tan(half) * Math.min(1, camera.aspect));
    return 1.04 * sphere.radius / Math.sin(narrow);
  }

  function look(what) {
    if ('mode' in what) state.mode = what.mode;
    if ('cut' in what) state.cut = what.cut;
    if ('spin' in what && what.spin !== state.spin) { state.spin = what.spin; last = 0; }
    if (sphere && (what.reset || 'azimuth' in what)) {
      target.copy(sphere.center);
      state.spin = false;
      place(what.azimuth ?? FIRST.azimuth, what.elevation ?? FIRST.elevation, whole());
    }
    if (what.reset) state.cut = 0;
    apply();
  }

  function key(event) {
    const { azimuth, elevation, away } = standing();
    const turn = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, 10], ArrowDown: [0, -10] }[event.key];
    const zoom = { '+': 1 / 1.15, '=': 1 / 1.15, '-': 1.15, _: 1.15 }[event.key];
    if (!sphere || event.ctrlKey || event.metaKey || event.altKey) return;
    if (turn) place(azimuth + turn[0], elevation + turn[1], away);
    else if (zoom) place(azimuth, elevation, away * zoom);
    else if (event.key === 'Home' || event.key === '0') look({ reset: true });
    else return;
    event.preventDefault();
  }

  function apply() {
    const mode = trellisModes[state.mode];
    for (const p of panes) {
      if (!p.root) continue;
      p.root.traverse((node) => {
        if (!node.isMesh) return;
        const { looks, given } = node.userData;
        const material = looks[state.mode] || (looks[state.mode] = mode.make(given));
        // Through a cut one looks at surfaces from behind, and must see that they are there.
        const side = state.cut > 0 ? trellisModes.DOUBLE_SIDED : mode.side(given);
        if (material.side !== side) { material.side = side; material.needsUpdate = true; }
        node.material = material;
      });
    }
    for (const button of modeButtons) button.setAttribute('aria-pressed', String(button.value === state.mode));
    spin.setAttribute('aria-pressed', String(state.spin));
    cut.value = state.cut;
    draw();
  }

  function draw() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(paint);
  }

  function paint(now) {
    pending = false;
    const stage = trellisStage();
    if (!stage || !sphere) return;
    if (state.spin) {
      const { azimuth, elevation, away } = standing();
      place(azimuth + (last ? Math.min(100, now - last) * 0.03 : 0), elevation, away);
      last = now;
    }
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const p of panes) {
      if (!p.root) continue;
      const width = Math.round(p.canvas.clientWidth * ratio);
      const height = Math.round(p.canvas.clientHeight * ratio);
      if (!width || !height) continue;
      if (p.canvas.width !== width || p.canvas.height !== height) Object.assign(p.canvas, { width, height });
      const size = stage.renderer.domElement;
      if (size.width !== width || size.height !== height) stage.renderer.setSize(width, height, false);
      const away = camera.position.distanceTo(sphere.center);
      camera.aspect = width / height;
      camera.near = Math.max(sphere.radius / 100, state.cut > 0 ? away + sphere.radius * (2 * state.cut - 1) : 0);
      camera.far = away + sphere.radius * 40;
      camera.updateProjectionMatrix();
      stage.renderer.toneMapping = state.mode === 'shaded' ? THREE.NeutralToneMapping : 0;
      stage.renderer.render(p.scene, camera);
      p.context.drawImage(size, 0, 0);
    }
  }

  function resized() {
    const canvas = panes.length ? panes[0].canvas : null;
    if (!canvas || !canvas.clientHeight) return;
    const was = sphere ? whole() : 0;
    camera.aspect = canvas.clientWidth / canvas.clientHeight;
    if (sphere) { const { azimuth, elevation, away } = standing(); place(azimuth, elevation, away * whole() / was); }
  }

  function button(label, title, act) {
    const made = element('button', bar, { type: 'button', textContent: label, title: title || '' });
    made.onclick = act;
    return made;
  }

  const modeButtons = Object.entries(trellisModes).filter(([, m]) => m.make).map(([name, m]) => Object.assign(
    button(m.label, m.title, () => look({ mode: name })), { value: name }));
  const spin = button('turntable', 'turns until it is pressed again', () => look({ spin: !state.spin }));
  button('reset', 'the first view again', () => look({ reset: true, mode: 'shaded' }));
  const label = element('label', bar, { className: 'cut', textContent: 'cut open ' });
  const cut = element('input', label, { type: 'range', min: 0, max: 1, step: 0.01, value: 0 });
  cut.oninput = () => look({ cut: Number(cut.value) });
  for (const asset of assets) panes.push(makePane(asset));
  element('p', holder, { className: 'quiet help',
    textContent: 'Drag to turn, right-drag to move. Click a view, then: arrow keys turn, wheel or + and − zoom, Home resets.' });
  new ResizeObserver(resized).observe(row);
  resized();
  apply();
  // A long report loads what is about to be looked at, not everything.
  new IntersectionObserver((entries, watch) => {
    if (!entries.some((e) => e.isIntersecting)) return;
    watch.disconnect();
    panes.forEach(load);
  }, { rootMargin: '300px' }).observe(holder);
  return { look };
}
