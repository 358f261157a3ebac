/**
 * Runs a function in a later task, after the frames that have arrived by now.
 *
 * Node has setImmediate; an open MessageChannel would keep a process alive. In a page a message is
 * the next task also while the page is hidden, where a timer would wait for a second or longer. A
 * timer is for environments with neither, such as tests with jsdom.
 */
export function later(run: () => void): void {
  const { setImmediate = setTimeout, MessageChannel } = globalThis as any;
  if (!MessageChannel || setImmediate !== setTimeout) return void setImmediate(run, 0);
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    run();
  };
  port2.postMessage(0);
}
