/** What stands in the way of the frames of a network, as an object of the machine. */
export interface NetworkFilter {
  /** A property that can be looked at while it is there; undefined for none. */
  get(name: string): unknown
  /** Changes one; false for one that cannot be changed. Throws `E_CONFIG` for what it cannot be. */
  set(name: string, value: unknown): boolean
  close(): void
}
