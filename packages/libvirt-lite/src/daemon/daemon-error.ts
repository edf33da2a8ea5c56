/** Why the daemon cannot run: the message says what to do about it. */
export class DaemonError extends Error {
  override readonly name: string = 'DaemonError'
}
