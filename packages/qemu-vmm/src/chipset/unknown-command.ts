/**
 * Told of what a guest asks of a device that the device does not have, such as a command: what it is, and its
 * code.
 */
export type UnknownCommand = (what: string, code: number) => void

/** Nobody is told. */
export const untold: UnknownCommand = () => {}
