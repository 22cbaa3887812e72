// Rotatable views of GLBs that turn together. three.js comes from three.min.js as THREE.
'use strict';

function trellisView(holder, assets) {
  const MODES = ['shaded', 'base colour', 'normals', 'wireframe'];
  const bar = holder.appendChild(document.createElement('div'));
  bar.className = 'view-bar';
  const row = holder.appendChild(document.createElement('div'));
  row.className = 'view-row';
  const panes = [];
  let mode = MODES[0];
  let leader = null;

  function fail(pane, text) {
    pane.note.textContent = text;
    holder.dataset.state = 'failed';
  }

  function makePane(asset) {
    const box = row.appendChild(document.createElement('figure'));
    box.className = 'view-pane';
    const canvas = box.appendChild(document.createElement('canvas'));
    const caption = box.appendChild(document.createElement('figcaption'));
    const name = caption.appendChild(document.createElement('b'));
    name.textContent = asset.name;
    const note = caption.appendChild(document.createElement('span'));
    const pane = { box, canvas, note, ready: false };
    let renderer;
    try {
      renderer = new THREE.WebGLRenderer({ canvas, antialias: true, preserveDrawingBuffer: true });
    } catch (error) {
      fail(pane, ' no WebGL here');
      return pane;
    }
    renderer.toneMapping = THREE.NeutralToneMapping;
    renderer.setPixelRatio(Math.min(window.devicePixelRatio || 1, 2));
    const scene = new THREE.Scene();
    scene.background = new THREE.Color(0x2b2d33);
    const room = new THREE.PMREMGenerator(renderer).fromScene(new THREE.RoomEnvironment(), 0.04).texture;
    scene.environment = room;
    const camera = new THREE.PerspectiveCamera(30, 1, 0.01, 100);
    const controls = new THREE.OrbitControls(camera, canvas);
    controls.enablePan = true;
    Object.assign(pane, { renderer, scene, camera, controls });
    controls.addEventListener('change', () => {
      if (leader === null) { leader = pane; follow(pane); leader = null; }
    });
    const data = typeof asset.glb === 'string' && asset.glb.startsWith('data:')
      ? fetchData(asset.glb) : fetch(asset.glb).then((r) => r.arrayBuffer());
    data.then((bytes) => new Promise((done, no) => new THREE.GLTFLoader().parse(bytes, '', done, no))).then((gltf) => {
      pane.root = gltf.scene;
      const bounds = new THREE.Box3().setFromObject(gltf.scene);
      pane.sphere = bounds.getBoundingSphere(new THREE.Sphere());
      let faces = 0;
      gltf.scene.traverse((node) => {
        if (node.isMesh) {
          const g = node.geometry;
          faces += (g.index ? g.index.count : g.attributes.position.count) / 3;
          node.userData.shaded = node.material;
        }
      });
      if (!faces) { fail(pane, ' no surface'); return; }
      note.textContent = ` ${Math.round(faces).toLocaleString('en')} faces`;
      scene.add(gltf.scene);
      pane.ready = true;
      frame();
      apply();
      if (panes.every((p) => p.ready)) holder.dataset.state = 'ready';
    }).catch((error) => fail(pane, ` cannot be shown: ${error && error.message ? error.message : error}`));
    return pane;
  }

  function fetchData(uri) {
    const text = atob(uri.slice(uri.indexOf(',') + 1));
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return Promise.resolve(bytes.buffer);
  }

  // All panes look at the first one's sphere, so that what moved or shrank is seen to have moved or shrunk.
  function frame() {
    const first = panes.find((p) => p.ready);
    if (!first) return;
    const { center, radius } = first.sphere;
    for (const p of panes) {
      if (!p.camera) continue;
      const away = 1.08 * radius / Math.sin(Math.PI * 15 / 180);
      p.camera.near = radius / 100;
      p.camera.far = radius * 40;
      p.camera.position.set(0.5, 0.42, 0.86).normalize().multiplyScalar(away).add(center);
      p.controls.target.copy(center);
      p.camera.updateProjectionMatrix();
      p.controls.update();
    }
  }

  function follow(source) {
    for (const p of panes) {
      if (p !== source && p.camera) {
        p.camera.position.copy(source.camera.position);
        p.camera.quaternion.copy(source.camera.quaternion);
        p.controls.target.copy(source.controls.target);
      }
    }
    draw();
  }

  function material(shaded) {
    const common = { side: shaded.side, transparent: shaded.transparent, alphaTest: shaded.alphaTest };
    if (mode === 'normals') return new THREE.MeshNormalMaterial({ side: shaded.side });
    if (mode === 'wireframe') return new THREE.MeshBasicMaterial({ color: 0x9ecbff, wireframe: true });
    return new THREE.MeshBasicMaterial({ ...common, map: shaded.map, color: shaded.color, vertexColors: shaded.vertexColors });
  }

  function apply() {
    for (const p of panes) {
      if (!p.root) continue;
      p.root.traverse((node) => {
        if (node.isMesh) node.material = mode === 'shaded' ? node.userData.shaded : material(node.userData.shaded);
      });
    }
    for (const button of bar.children) button.classList.toggle('on', button.textContent === mode);
    draw();
  }

  function draw() {
    for (const p of panes) {
      if (!p.renderer) continue;
      const width = p.box.clientWidth;
      const height = p.canvas.clientHeight;
      if (p.width !== width || p.height !== height) {
        Object.assign(p, { width, height });
        p.renderer.setSize(width, height, false);
        p.camera.aspect = width / Math.max(1, height);
        p.camera.updateProjectionMatrix();
      }
      p.renderer.toneMapping = mode === 'shaded' ? THREE.NeutralToneMapping : 0;
      p.renderer.render(p.scene, p.camera);
    }
  }

  for (const name of MODES) {
    const button = bar.appendChild(document.createElement('button'));
    button.textContent = name;
    button.onclick = () => { mode = name; apply(); };
  }
  for (const asset of assets) panes.push(makePane(asset));
  window.addEventListener('resize', draw);
  apply();
}
