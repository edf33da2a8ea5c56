/** An interface of the host's, as a cable. */
export interface TapNetConfig {
  type: 'tap'
  id: string
  /** Its name; without it the host chooses one. */
  ifname?: string
}
