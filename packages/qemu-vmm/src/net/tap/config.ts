/** An interface of the host's, as a cable. */
export interface TapNetConfig {
  type: 'tap'
  id: string
  /** Its name; without it the host chooses one. */
  ifname?: string
  /** The descriptor of one that is open, in place of a name. It has headers of virtio (`IFF_VNET_HDR`). */
  fd?: number
  /** Programs that are run with the interface's name when it is open, and when it is to be closed. */
  script?: string
  downscript?: string
}
