"use strict";
// The page works without this script; with it the scene can be turned and the held-out views leafed through.
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);

  function numbers(text, Kind) {
    const raw = atob(text);
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    return new Kind(bytes.buffer);
  }

  function leaf() {
    const slider = document.getElementById("view");
    if (!slider) return;
    const show = () => {
      const view = data.views[Number(slider.value)];
      document.getElementById("view-name").textContent = view.name;
      for (const kind of ["input", "nerf", "splat"]) {
        const image = document.getElementById("view-" + kind);
        if (!image || !view[kind]) continue;
        image.src = view[kind];
        document.getElementById("view-" + kind + "-note").textContent = view[kind + "_note"] || "";
      }
    };
    slider.addEventListener("input", show);
    show();
  }

  function scene() {
    const canvas = document.getElementById("scene");
    if (!canvas || !data.scene) return;
    const points = numbers(data.scene.points, Float32Array);
    const colors = numbers(data.scene.colors, Uint8Array);
    const cameras = data.scene.cameras;
    const context = canvas.getContext("2d");
    const start = { yaw: 0.6, pitch: 0.45, zoom: 1, x: 0, y: 0 };
    let pose = { ...start };
    let image = null;
    let depth = null;
    let pending = false;

    // The world is given with y down, centred and scaled to radius 1; the eye circles it at distance 3.
    function matrix() {
      const [cy, sy, cp, sp] = [Math.cos(pose.yaw), Math.sin(pose.yaw), Math.cos(pose.pitch), Math.sin(pose.pitch)];
      return [cy, 0, sy, sy * sp, cp, -cy * sp, -sy * cp, sp, cy * cp];
    }

    function project(m, x, y, z) {
      const far = m[6] * x + m[7] * y + m[8] * z + 3;
      if (far < 0.1) return null;
      const scale = (1.7 * Math.min(canvas.width, canvas.height) * pose.zoom) / far;
      return [
        canvas.width / 2 + pose.x + (m[0] * x + m[1] * y + m[2] * z) * scale,
        canvas.height / 2 + pose.y + (m[3] * x + m[4] * y + m[5] * z) * scale,
        far,
      ];
    }

    function draw() {
      pending = false;
      const dense = Math.min(2, window.devicePixelRatio || 1);
      const [width, height] = [Math.max(1, Math.round(canvas.clientWidth * dense)), Math.max(1, Math.round(canvas.clientHeight * dense))];
      if (canvas.width !== width || canvas.height !== height || !image) {
        canvas.width = width;
        canvas.height = height;
        image = context.createImageData(width, height);
        depth = new Float32Array(width * height);
      }
      const pixels = new Uint32Array(image.data.buffer);
      pixels.fill(0xff14100d);
      depth.fill(Infinity);
      const m = matrix();
      const size = Math.max(2, Math.round(2 * dense));
      for (let i = 0; i < points.length / 3; i++) {
        const at = project(m, points[3 * i], points[3 * i + 1], points[3 * i + 2]);
        if (!at) continue;
        const color = 0xff000000 | (colors[3 * i + 2] << 16) | (colors[3 * i + 1] << 8) | colors[3 * i];
        const [left, top] = [Math.round(at[0] - size / 2), Math.round(at[1] - size / 2)];
        for (let v = Math.max(0, top); v < Math.min(height, top + size); v++) {
          for (let u = Math.max(0, left); u < Math.min(width, left + size); u++) {
            if (at[2] < depth[v * width + u]) {
              depth[v * width + u] = at[2];
              pixels[v * width + u] = color;
            }
          }
        }
      }
      context.putImageData(image, 0, 0);
      for (const path of data.scene.paths) line(m, path.places, path.color, 2 * dense);
      cameras.forEach((camera, i) => {
        const color = camera.held_out ? "#e0b94f" : "hsl(" + (205 - 60 * (i / Math.max(1, cameras.length - 1))) + " 80% 65%)";
        const c = camera.corners;
        line(m, [c[0], c[1], c[2], c[3], c[0]], color, dense);
        for (const corner of c) line(m, [camera.center, corner], color, dense);
      });
    }

    function line(m, places, color, width) {
      context.strokeStyle = color;
      context.lineWidth = width;
      context.beginPath();
      let broken = true;
      for (const [x, y, z] of places) {
        const at = project(m, x, y, z);
        if (at && broken) context.moveTo(at[0], at[1]);
        else if (at) context.lineTo(at[0], at[1]);
        broken = !at;
      }
      context.stroke();
    }

    function redraw() {
      if (!pending) {
        pending = true;
        requestAnimationFrame(draw);
      }
    }

    function turn(yaw, pitch) {
      pose.yaw += yaw;
      pose.pitch = Math.max(-1.55, Math.min(1.55, pose.pitch + pitch));
      redraw();
    }

    function zoom(by) {
      pose.zoom = Math.max(0.2, Math.min(20, pose.zoom * by));
      redraw();
    }

    const fingers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
      if (fingers.size === 2) {
        const [, other] = [...fingers].find(([id]) => id !== event.pointerId);
        const apart = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
        zoom(apart([event.clientX, event.clientY]) / apart(before));
      } else if (event.shiftKey || event.buttons === 2) {
        const dense = canvas.width / canvas.clientWidth;
        pose.x += dx * dense;
        pose.y += dy * dense;
        redraw();
      } else {
        turn(-dx * 0.008, dy * 0.008);
      }
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY * 0.0015)); }, { passive: false });
    canvas.addEventListener("dblclick", () => { pose = { ...start }; redraw(); });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
      if (moves[event.key]) turn(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") zoom(1.15);
      else if (event.key === "-") zoom(1 / 1.15);
      else return;
      event.preventDefault();
    });
    new ResizeObserver(redraw).observe(canvas);
    redraw();
  }

  leaf();
  scene();
})();
