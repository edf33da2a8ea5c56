/** An interface of the host's that is made in a bridge. */
export interface BridgeNetConfig {
  type: 'bridge'
  id: string
  /** The bridge; default `br0`. */
  br?: string
  /** Path of the program that makes it. Default QEMU's, where this process may not make it itself. */
  helper?: string
}
