import { Accounting } from '../block/accounting.ts'
import { ThrottleGroups } from '../block/throttle/groups.ts'
import { checkLimits } from '../block/throttle/limits.ts'
import type { ThrottleLimits } from '../block/throttle/limits.ts'
import { Throttled } from '../block/throttle/throttled.ts'
import { VmmError } from '../errors.ts'
import { createBackend, describeBackend, isDevice } from './block-backend.ts'
import type { BackendInfo, BlockBackend, MediaDevice, TrayMoved } from './block-backend.ts'
import type { DriveConfig } from './drive-config.ts'
import type { Drive, OpenDrive, DriveOpener, ImageConfig, DriveInfo } from './drive.ts'

/** An image that is open. */
interface Node {
  readonly drive: OpenDrive
  /** The same with limits. */
  readonly throttled: Throttled
  readonly config: ImageConfig
  /** The same as its device has it; without counters where none has. */
  counted: Accounting
  /** Somebody waits until nothing is under way: what fails meanwhile does not wait for the machine. */
  isSettling: boolean
}

/** What drives tell the machine, by their ids. */
export interface DrivesEvents {
  onStop(drive: string, error: Error): void
  log(message: string): void
  /** The host's time, from any moment on, for what requests take. */
  nowNs(): number
  trayMoved?(moved: TrayMoved): void
}

/** The drives of a machine: open images, and what they belong to, of which each has one at most. */
export class Drives {
  readonly #nodes = new Map<string, Node>()
  readonly #backends: BlockBackend[] = []
  readonly #groups: ThrottleGroups
  readonly #open: DriveOpener
  readonly #events: DrivesEvents

  private constructor(open: DriveOpener, events: DrivesEvents) {
    this.#open = open
    this.#events = events
    this.#groups = new ThrottleGroups(() => events.nowNs())
  }

  /** Opens all; when one cannot be opened none stays open. */
  static async open(
    configs: readonly DriveConfig[],
    open: DriveOpener,
    events: DrivesEvents,
  ): Promise<Drives> {
    const drives = new Drives(open, events)
    try {
      for (const config of configs) await drives.add(config)
    } catch (error) {
      await drives.close()
      throw error
    }
    return drives
  }

  /**
   * Opens one more, or makes an empty one. Rejects with `E_CONFIG` for an id that another has, and as
   * images do.
   */
  async add(config: DriveConfig): Promise<void> {
    const { id, file } = config
    if (this.#nodes.has(id) || this.#backends.some(({ name }) => name === id)) {
      throw new VmmError('E_CONFIG', `Duplicate nodes with node-name='${id}'`, {
        fields: { drive: id },
      })
    }
    if (file !== undefined) await this.addNode({ ...config, file })
    else if (config.throttle?.limits !== undefined) checkLimits(config.throttle.limits)
    if (config.deleteWithDevice === true || file === undefined) {
      this.#backends.push(createBackend(id, config, file === undefined ? undefined : id))
    }
  }

  /** Opens an image that belongs to nothing yet. Rejects as images do. */
  async addNode(config: ImageConfig): Promise<void> {
    const { id, throttle } = config
    if (throttle?.limits !== undefined) checkLimits(throttle.limits)
    const drive = await this.#open(config, {
      onStop: (error) => {
        const node = this.#nodes.get(id)
        if (node?.isSettling === true) node.drive.abandon()
        else this.#events.onStop(id, error)
      },
      log: (message) => this.#events.log(message),
    })
    const throttled = new Throttled(drive)
    if (throttle !== undefined) {
      this.#groups.put(throttled, throttle.group ?? id, throttle.limits)
    }
    const counted = this.#count(throttled)
    this.#nodes.set(id, { drive, throttled, config, counted, isSettling: false })
  }

  /** Closes one. Rejects with `E_NO_DRIVE` when there is none, `E_IN_USE` while a device has it. */
  async remove(id: string): Promise<void> {
    const backend = this.#backends.find(({ name, node }) => name === id || node === id)
    if (backend === undefined && !this.#nodes.has(id)) {
      throw new VmmError('E_NO_DRIVE', `Failed to find node with node-name='${id}'`, {
        fields: { drive: id },
      })
    }
    const user = backend?.owner ?? (backend?.name === id ? undefined : backend?.name)
    if (user !== undefined) {
      throw new VmmError('E_IN_USE', `Node ${id} is in use by ${user}; remove that first`, {
        fields: { drive: id, owner: user },
      })
    }
    if (backend === undefined) await this.#closeNode(id)
    else await this.#drop(backend)
  }

  /** What is open, and whose. */
  list(): DriveInfo[] {
    return Array.from(this.#nodes.values(), ({ drive, throttled, counted, config }) => {
      const owner = this.backendOf(config.id)?.owner
      return {
        ...withLimits(config, throttled),
        ...drive.image,
        sizeBytes: drive.sizeBytes,
        readOnly: drive.readOnly,
        isWaiting: drive.waiting > 0,
        stats: counted.stats(),
        ...(owner === undefined ? {} : { owner }),
      }
    })
  }

  /** What devices have, or will have, with and without media: those with names first, as QEMU has it. */
  backends(): BackendInfo[] {
    const named = this.#backends.filter(({ name }) => name !== '')
    const others = this.#backends.filter(({ name }) => name === '')
    const now = this.#events.nowNs()
    return [...named, ...others].map((backend) => describeBackend(backend, now))
  }

  /** The backend that a node belongs to. */
  backendOf(node: string): BlockBackend | undefined {
    return this.#backends.find((backend) => backend.node === node)
  }

  /** One that monitors name, by its own name or by its device. */
  findBackend(by: { device: string } | { id: string }): BlockBackend | undefined {
    return this.#backends.find((backend) =>
      'device' in by ? backend.name === by.device : isDevice(backend, by.id),
    )
  }

  /**
   * Gives a drive to a device. Throws `E_DEVICE_OPTION` when there is none, or it is in use, or is empty.
   *
   * @param qdev the device as monitors name it
   */
  take(id: string, owner: string, qdev: string = owner): Drive {
    const backend = this.#claim(id, owner)
    const node = backend.node === undefined ? undefined : this.#nodes.get(backend.node)
    if (node === undefined) {
      throw new VmmError(
        'E_DEVICE_OPTION',
        `Device needs media, but drive is empty: ${owner} is no drive for media that come and go, ` +
          `give '${id}' a file`,
        { fields: { device: owner, drive: id } },
      )
    }
    this.#own(backend, owner, qdev)
    node.counted = this.#count(node.throttled, backend)
    return node.counted
  }

  /**
   * Gives a drive, which may be empty, to a device whose medium can be changed; without an id the device
   * has one of its own, and no medium. Throws as `take`, and what the device says of the medium.
   */
  takeRemovable(id: string | undefined, owner: string, qdev: string, media: MediaDevice): void {
    const backend =
      id === undefined ? createBackend('', { id: '' }, undefined) : this.#claim(id, owner)
    const { node: medium } = backend
    if (medium !== undefined) this.#fill(backend, medium, media)
    this.#own(backend, owner, qdev)
    backend.media = media
    media.onTrayMoved = (isOpen) => this.trayMoved(backend, isOpen)
  }

  /** Makes a free node the medium of a backend. Throws what its device says of it. */
  insert(backend: BlockBackend, id: string): void {
    if (backend.media !== undefined) this.#fill(backend, id, backend.media)
    backend.node = id
  }

  /** Takes the medium of a backend out, when nothing of it is under way any more. */
  async eject(backend: BlockBackend): Promise<void> {
    const { node: id, media } = backend
    if (id === undefined) return
    backend.node = undefined
    media?.setMedium(undefined)
    const node = this.#nodes.get(id)!
    node.isSettling = true
    // The limits are the drive's, and wait for its next medium.
    backend.throttle = withLimits(node.config, node.throttled).throttle
    this.#groups.take(node.throttled)
    node.drive.abandon()
    await node.counted.idle()
    node.isSettling = false
    node.counted = this.#count(node.throttled)
    backend.wasReadOnly = node.drive.readOnly
    if (node.config.deleteWithDevice === true) await this.#closeNode(id)
  }

  /** Tells the machine of a tray. */
  trayMoved({ name, qdev = '' }: BlockBackend, isOpen: boolean): void {
    this.#events.trayMoved?.({ device: name, id: qdev, isOpen })
  }

  /**
   * Makes a disk larger or smaller, and its device tells the guest. Rejects with `E_NO_DRIVE`, `E_IN_USE` where the
   * device cannot tell, and as images do.
   */
  async resize(id: string, sizeBytes: number): Promise<void> {
    const node = this.#nodes.get(id)
    if (node === undefined) throw new VmmError('E_NO_DRIVE', `Cannot find device='${id}'`)
    const { drive, counted } = node
    const owner = this.backendOf(id)?.owner
    if (drive.resize === undefined || (owner !== undefined && counted.onResized === undefined)) {
      throw new VmmError(
        'E_IN_USE',
        `Node ${id} is in use by ${owner}, whose disks keep their sizes; use it without a machine`,
        { fields: { drive: id, owner: owner ?? '' } },
      )
    }
    if (drive.readOnly) throw new VmmError('E_READ_ONLY', 'Image is read-only')
    if (drive.waiting > 0) {
      throw new VmmError(
        'E_IN_USE',
        `Node ${id} has requests that failed and wait; resume the machine first`,
        { fields: { drive: id } },
      )
    }
    const block = drive.logicalBlockBytes
    // As QEMU does it, the disk has whole blocks.
    const size = Math.ceil(sizeBytes / block) * block
    node.isSettling = true
    try {
      await counted.resize(() => drive.resize!(size))
    } finally {
      node.isSettling = false
    }
  }

  /**
   * Limits a drive, as one of a group, or ends that when there are no limits.
   * @throws VmmError `E_NO_DRIVE`, `E_BLOCK_OPTION` for limits that make no sense
   */
  throttle(id: string, limits: ThrottleLimits, group: string): void {
    const node = this.#nodes.get(id)
    if (node === undefined) throw new VmmError('E_NO_DRIVE', `Cannot find device='${id}'`)
    this.#groups.limit(node.throttled, group, limits)
  }

  /** The device with this drive is gone: another may have it, if it does not go with the device. */
  async release(id: string): Promise<void> {
    const backend = this.#backends.find(({ name, node }) => name === id || node === id)
    if (backend !== undefined) await this.#drop(backend)
  }

  /** A device with removable media is gone, and with it what it had. */
  async releaseRemovable(qdev: string): Promise<void> {
    const backend = this.findBackend({ id: qdev })
    if (backend !== undefined) await this.#drop(backend)
  }

  /** Fails what waits of one. */
  abandonOne(id: string): void {
    const node = this.#nodes.get(id)
    node?.throttled.release()
    node?.drive.abandon()
  }

  /** Lets requests go on that failed and were kept. */
  retry(): void {
    for (const { drive } of this.#nodes.values()) drive.retry()
  }

  /** The first drive of which failed requests wait. */
  get waiting(): string | undefined {
    for (const [id, { drive }] of this.#nodes) if (drive.waiting > 0) return id
    return undefined
  }

  /** Rejects what waits: the machine ends. */
  abandon(): void {
    for (const { drive, throttled } of this.#nodes.values()) {
      throttled.release()
      drive.abandon()
    }
  }

  /** Closes all; what was written is in the images then. */
  async close(): Promise<void> {
    const nodes = [...this.#nodes.values()]
    this.#nodes.clear()
    this.#backends.length = 0
    for (const { throttled } of nodes) this.#groups.take(throttled)
    const results = await Promise.allSettled(nodes.map(({ drive }) => drive.close()))
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  #count(throttled: Throttled, backend?: BlockBackend): Accounting {
    return new Accounting(throttled, () => this.#events.nowNs(), backend?.counters)
  }

  /** What a device names: a drive that it alone will have. */
  #claim(id: string, owner: string): BlockBackend {
    const backend = this.#backends.find(({ name, node }) => name === id || node === id)
    const node = this.#nodes.get(id)
    if (backend === undefined && node === undefined) {
      const known = [...this.#nodes.keys()].join(', ') || 'none'
      throw new VmmError(
        'E_DEVICE_OPTION',
        `Property '${owner}.drive' can't find value '${id}' (drives: ${known})`,
        { fields: { device: owner, drive: id } },
      )
    }
    const user = backend?.owner ?? (backend?.name === id ? undefined : backend?.name)
    if (user !== undefined) {
      throw new VmmError(
        'E_DEVICE_OPTION',
        `Drive '${id}' is already in use by ${user}; give ${owner} another`,
        { fields: { device: owner, drive: id, owner: user } },
      )
    }
    return backend ?? createBackend('', node!.config, id)
  }

  #own(backend: BlockBackend, owner: string, qdev: string): void {
    backend.owner = owner
    backend.qdev = qdev
    if (!this.#backends.includes(backend)) this.#backends.push(backend)
  }

  #fill(backend: BlockBackend, id: string, media: MediaDevice): void {
    const node = this.#nodes.get(id)!
    const { throttle } = backend
    if (throttle !== undefined) {
      this.#groups.rejoin(node.throttled, throttle.group ?? backend.name, throttle.limits)
      backend.throttle = undefined
    }
    const counted = this.#count(node.throttled, backend)
    media.setMedium(counted)
    node.counted = counted
  }

  /** Forgets a backend; its medium stays if it has come without it. */
  async #drop(backend: BlockBackend): Promise<void> {
    this.#backends.splice(this.#backends.indexOf(backend), 1)
    const { node: id } = backend
    const node = id === undefined ? undefined : this.#nodes.get(id)
    if (node === undefined) return
    if (node.config.deleteWithDevice === true) await this.#closeNode(node.config.id)
    else node.counted = this.#count(node.throttled)
  }

  async #closeNode(id: string): Promise<void> {
    const node = this.#nodes.get(id)
    this.#nodes.delete(id)
    if (node !== undefined) this.#groups.take(node.throttled)
    await node?.drive.close()
  }
}

/** The description of a drive, with the limits that it has now in place of those that it began with. */
function withLimits<T extends Omit<DriveConfig, 'file'>>(config: T, { group }: Throttled): T {
  const now = { ...config }
  if (group === undefined) delete now.throttle
  else now.throttle = { group: group.name, limits: group.limits }
  return now
}
