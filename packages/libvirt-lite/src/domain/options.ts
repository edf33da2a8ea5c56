/** A kind of machine, as an emulator lists it. */
export interface MachineType {
  name: string
  /** Another name for it: `pc` for the newest `pc-i440fx-…`. */
  alias?: string
}

/** What a definition is completed with. */
export interface DomainOptions {
  /** The emulator of a domain that names none (default: `/usr/bin/qemu-kvm`). */
  emulator?: string
  /** The machines that the emulator has (default: those of `qemu-kvm`). */
  machines?: readonly MachineType[]
  /** Folder of what domains keep besides their disks: variables of firmware (default: `/var/lib/libvirt/qemu`). */
  stateDir?: string
  /** The definition is that of a running domain: its devices have their names already, and keep them. */
  isRunning?: boolean
  /** Makes the UUID of a domain that has none. */
  newUuid?: () => string
  /** Makes the address of a card that has none. */
  newMac?: () => string
}

/** Machines of `qemu-kvm -machine help`. */
export const defaultMachines: readonly MachineType[] = [
  { name: 'pc-i440fx-7.2', alias: 'pc' },
  { name: 'pc-q35-7.2', alias: 'q35' },
  { name: 'none' },
]

export const defaultEmulator = '/usr/bin/qemu-kvm'
