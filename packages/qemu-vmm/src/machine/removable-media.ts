import { VmmError } from '../errors.ts'
import type { BlockBackend } from './block-backend.ts'
import type { DriveConfig } from './drive-config.ts'
import type { Drives } from './drives.ts'

/** A drive as monitors name it: by its own name, or by the id or path of its device. */
export interface DriveName {
  device?: string | undefined
  id?: string | undefined
}

/** How a medium is opened: as the one before it was, or not. */
export const READ_ONLY_MODES = ['retain', 'read-only', 'read-write'] as const

/** A new medium. Plain data. */
export interface NewMedium {
  file: string
  /** By its content when absent. */
  format?: 'raw' | 'qcow2'
  readOnlyMode: (typeof READ_ONLY_MODES)[number]
  /** Also where the guest has locked the tray. */
  force: boolean
}

/** What opening a tray comes to: where the guest has locked it, it has been asked only. */
type TrayOutcome = 'open' | 'no tray' | 'locked'

/** Media that come and go while the machine runs, in the order of events that QEMU has. */
export class RemovableMedia {
  readonly #drives: Drives
  /** Whether a device is there that has no drive. */
  readonly #hasDevice: (id: string) => boolean
  #anonymous = 0

  constructor(drives: Drives, hasDevice: (id: string) => boolean) {
    this.#drives = drives
    this.#hasDevice = hasDevice
  }

  /**
   * Opens a tray; where the guest has locked it, it is asked, and opens it itself. Throws
   * `E_DEVICE_NOT_FOUND`, `E_MEDIUM`.
   */
  openTray(name: DriveName, force: boolean): void {
    this.#open(this.#find(name), name, force)
  }

  /** Closes one; there may be none. */
  closeTray(name: DriveName): void {
    const backend = this.#find(name)
    const { media } = backend
    if (!isRemovable(backend)) throw notRemovable(name)
    if (media?.hasTray !== true || !media.isTrayOpen) return
    media.moveTray(false)
    this.#drives.trayMoved(backend, false)
  }

  /** Puts a free node into an open tray, or a drive without one. Throws `E_MEDIUM`, `E_NO_DRIVE`. */
  insert(name: DriveName, node: string): void {
    const backend = this.#find(name)
    if (!this.#drives.list().some(({ id }) => id === node)) {
      throw new VmmError('E_NO_DRIVE', `Node '${node}' not found`, { fields: { drive: node } })
    }
    if (this.#drives.backendOf(node) !== undefined) {
      throw new VmmError('E_MEDIUM', `Node '${node}' is already in use`, {
        fields: { drive: node },
      })
    }
    this.#checkInsert(backend, name)
    this.#drives.insert(backend, node)
  }

  /** Takes the medium out of an open tray, or of a drive without one. Throws `E_MEDIUM`. */
  async remove(name: DriveName): Promise<void> {
    const backend = this.#find(name)
    if (!isRemovable(backend)) throw notRemovable(name)
    if (backend.media?.hasTray === true && !backend.media.isTrayOpen) {
      throw mediumError(`Tray of device '${textOf(name)}' is not open`, name)
    }
    await this.#drives.eject(backend)
  }

  /** Opens the tray and takes the medium out. Throws `E_MEDIUM`, also while the guest keeps it locked. */
  async eject(name: DriveName, force: boolean): Promise<void> {
    const outcome = this.#open(this.#find(name), name, force)
    if (outcome === 'locked') throw isLocked(name)
    await this.remove(name)
  }

  /** Puts another image in: opened first, so that the old medium stays where that fails. */
  async change(name: DriveName, medium: NewMedium): Promise<void> {
    const backend = this.#find(name)
    const id = await this.#openImage(backend, medium)
    try {
      const outcome = this.#open(backend, name, medium.force)
      if (outcome === 'locked') throw isLocked(name)
      await this.remove(name)
      this.#checkInsert(backend, name)
      this.#drives.insert(backend, id)
    } catch (error) {
      await this.#drives.remove(id)
      throw error
    }
    this.closeTray(name)
  }

  /** Resolves to the name of a node that goes when it is taken out. */
  async #openImage(backend: BlockBackend, medium: NewMedium): Promise<string> {
    const { file, format, readOnlyMode } = medium
    const { cache, discard, werror, rerror, locking } = backend.config
    const { wasReadOnly = true } = backend
    const readOnly = readOnlyMode === 'retain' ? wasReadOnly : readOnlyMode === 'read-only'
    // QEMU's names for nodes that are given none begin like this, and nobody can choose such a one.
    const id = `#block${String(this.#anonymous++).padStart(3, '0')}`
    // How the one before was opened; what it was is its own.
    const options = { format, cache, discard, werror, rerror, locking }
    const given = Object.fromEntries(
      Object.entries(options).filter(([, value]) => value !== undefined),
    ) as Partial<DriveConfig>
    try {
      await this.#drives.addNode({ ...given, id, file, readOnly, deleteWithDevice: true })
    } catch (error) {
      // It does not come from an option, which the message would name.
      throw error instanceof VmmError && error.cause instanceof VmmError ? error.cause : error
    }
    return id
  }

  #open(backend: BlockBackend, name: DriveName, force: boolean): TrayOutcome {
    const { media } = backend
    if (!isRemovable(backend)) throw notRemovable(name)
    if (media?.hasTray !== true) return 'no tray'
    if (media.isTrayOpen) return 'open'
    const wasLocked = media.isLocked
    if (wasLocked) media.requestEject(force)
    if (wasLocked && !force) return 'locked'
    media.moveTray(true)
    this.#drives.trayMoved(backend, true)
    return 'open'
  }

  #checkInsert(backend: BlockBackend, name: DriveName): void {
    const { media } = backend
    if (!isRemovable(backend)) throw mediumError('Device is not removable', name)
    if (media?.hasTray === true && !media.isTrayOpen) {
      throw mediumError('Tray of the device is not open', name)
    }
    if (backend.node !== undefined) {
      throw mediumError('There already is a medium in the device', name)
    }
  }

  #find({ device, id }: DriveName): BlockBackend {
    if ((device === undefined) === (id === undefined)) {
      throw new VmmError('E_MEDIUM', "Need exactly one of 'device' and 'id'")
    }
    const found = this.#drives.findBackend(device === undefined ? { id: id! } : { device })
    if (found !== undefined) return found
    if (id !== undefined && this.#hasDevice(id)) {
      throw new VmmError('E_MEDIUM', 'Device does not have a block device backend', {
        fields: { device: id },
      })
    }
    const name = device ?? id!
    throw new VmmError('E_DEVICE_NOT_FOUND', `Device '${name}' not found`, {
      fields: { device: name },
    })
  }
}

/** Without a device anything can be put in. */
function isRemovable({ owner, media }: BlockBackend): boolean {
  return owner === undefined || media !== undefined
}

function textOf({ device, id }: DriveName): string {
  return device ?? id ?? ''
}

function mediumError(message: string, name: DriveName): VmmError {
  return new VmmError('E_MEDIUM', message, { fields: { device: textOf(name) } })
}

function notRemovable(name: DriveName): VmmError {
  return mediumError(`Device '${textOf(name)}' is not removable`, name)
}

function isLocked(name: DriveName): VmmError {
  return mediumError(
    `Device '${textOf(name)}' is locked and force was not specified, wait for tray to open and try again`,
    name,
  )
}
