/* Search in pages opened from a folder, where browsers refuse web workers: runs the worker's script in a hidden frame.
   The theme's worker looks for the name IFrameWorker, and then finds its own files by the frame's script element. */
(() => {
  if (location.protocol !== "file:" || !("Worker" in window)) return;
  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      document.body.append(frame);
      this.frame = frame.contentWindow;
      this.waiting = [];
      const inside = this.frame;
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = (...urls) =>
        urls.reduce((before, each) => before.then(() => load(inside, each)), Promise.resolve());
      load(inside, String(url)).then(() => {
        this.ready = true;
        this.waiting.splice(0).forEach(data => this.postMessage(data));
      });
    }
    postMessage(data) {
      if (this.ready) this.frame.dispatchEvent(new this.frame.MessageEvent("message", { data }));
      else this.waiting.push(data);
    }
    terminate() {
      this.frame.frameElement.remove();
    }
  }
  const load = (inside, url) =>
    new Promise((done, failed) => {
      const script = inside.document.createElement("script");
      Object.assign(script, { src: url, onload: done, onerror: failed });
      inside.document.body.append(script);
    });
  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
})();
