import type { AtaUnit } from './unit.ts'

/** Where ATA devices are plugged in: a channel of an IDE controller, or a port of an AHCI one. */
export interface AtaBus {
  /** As `bus=` names it: `ide.0`. */
  readonly name: string
  readonly units: number
  /** What is plugged in there. */
  owner(unit: number): string | undefined
  /** Connects a device, once for each unit. */
  attach(unit: number, owner: string, device: AtaUnit): void
  /** Number of a unit among all of the machine, from 1, for serial numbers. */
  serialNumber(unit: number): number
  /** The Open Firmware path of a unit, by which firmware knows it. */
  firmwarePath(unit: number): string
  /** Power-on reset of the bus and its devices. */
  reset(): void
  /** Resolves when the host works for no device any more. */
  quiesce(): Promise<void>
}
