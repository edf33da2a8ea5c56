import { chipsetOf } from '../normalise/machine.ts'
import type { Controller, Devices, RandomGenerator } from '../generated/model.ts'
import { notYet, only, onOff } from './command.ts'
import type { Command } from './command.ts'

/** What cannot be started yet, with why. */
const missing: Partial<Record<keyof Devices, readonly [element: string, why: string]>> = {
  leases: ['lease', 'there is no lock manager'],
  filesystems: ['filesystem', 'folders of the host are not shared yet'],
  smartcards: ['smartcard', 'there are no smart cards'],
  tpms: ['tpm', 'there is no TPM yet; remove it (virt-install --tpm none)'],
  graphics: [
    'graphics',
    'screens are not served yet; remove it (virt-install --graphics none), and use a serial console',
  ],
  sounds: ['sound', 'there are no sound cards; remove it (virt-install --sound none)'],
  hostdevs: ['hostdev', 'devices of the host cannot be given to guests yet'],
  redirdevs: ['redirdev', 'there is no USB yet; remove it'],
  redirfilter: ['redirfilter', 'there is no USB yet'],
  hubs: ['hub', 'there is no USB yet'],
  nvram: ['nvram', 'it is for POWER'],
  shmems: ['shmem', 'there is no shared memory yet'],
  memories: ['memory', 'there are no modules of memory yet'],
  iommu: ['iommu', 'there is no IOMMU yet'],
  vsock: ['vsock', 'there are no sockets to the guest yet'],
  cryptos: ['crypto', 'there is no device that encrypts'],
}

/** Refuses devices that nothing here can start. */
export function refuseMissing(command: Command): void {
  const { def } = command
  for (const [key, [element, why]] of Object.entries(missing)) {
    const value = def.devices?.[key as keyof Devices]
    const none = value === undefined || (Array.isArray(value) && value.length === 0)
    if (!none) throw notYet(`/domain/devices/${element}${Array.isArray(value) ? '[1]' : ''}`, why)
  }
  for (const [index, audio] of (def.devices?.audios ?? []).entries()) {
    if (audio.type !== 'none') {
      throw notYet(`/domain/devices/audio[${index + 1}]/@type`, 'expected "none", without sound')
    }
  }
  for (const [index, input] of (def.devices?.inputs ?? []).entries()) {
    if (input.bus !== 'ps2') {
      throw notYet(
        `/domain/devices/input[${index + 1}]/@bus`,
        `"${input.bus}" is not there yet, expected "ps2", which every machine has; remove it`,
      )
    }
  }
  for (const [index, { model }] of (def.devices?.watchdogs ?? []).entries()) {
    // One is part of the chipset of QEMU's q35.
    if (model === 'itco' ? command.features.tuning : command.has(model)) continue
    throw notYet(
      `/domain/devices/watchdog[${index + 1}]/@model`,
      `${command.result.program} has no watchdog "${model}"; remove it`,
    )
  }
}

const usbDrivers: Readonly<Record<string, string>> = {
  'piix3-uhci': 'piix3-usb-uhci',
  'piix4-uhci': 'piix4-usb-uhci',
  ehci: 'usb-ehci',
  'ich9-ehci1': 'ich9-usb-ehci1',
  'ich9-uhci1': 'ich9-usb-uhci1',
  'ich9-uhci2': 'ich9-usb-uhci2',
  'ich9-uhci3': 'ich9-usb-uhci3',
  'vt82c686b-uhci': 'vt82c686b-usb-uhci',
  'nec-xhci': 'nec-usb-xhci',
}

const scsiDrivers: Readonly<Record<string, string>> = {
  'virtio-scsi': 'virtio-scsi-pci',
  lsilogic: 'lsi',
  lsisas1068: 'mptsas1068',
  lsisas1078: 'megasas',
  vmpvscsi: 'pvscsi',
}

/** Adds controllers, ports before what is behind them. */
export function addControllers(command: Command): void {
  const all = (command.def.devices?.controllers ?? []).map((controller, index) => ({
    controller,
    path: `/domain/devices/controller[${index + 1}]`,
  }))
  const pci = all.filter(({ controller }) => controller.type === 'pci')
  const ordered = pci.toSorted((a, b) => busOf(a.controller) - busOf(b.controller))
  for (const { controller, path } of ordered) addPciController(command, controller, path)
  for (const { controller, path } of all) {
    if (controller.type !== 'pci') addController(command, controller, path)
  }
}

function busOf({ address }: Controller): number {
  return address?.type === 'pci' ? (address.bus ?? 0) : -1
}

function addPciController(command: Command, controller: Controller, path: string): void {
  const { model = '', modelName, target } = controller
  if (model === 'pci-root' || model === 'pcie-root') {
    only(controller, path, ['type', 'index', 'model', 'alias'])
    return
  }
  only(controller, path, ['type', 'index', 'model', 'modelName', 'target', 'alias', 'address'])
  only(target, `${path}/target`, [
    'chassis',
    'port',
    'chassisNr',
    ...(model === 'pcie-root-port' ? ['hotplug'] : []),
  ])
  command.addDevice(modelName?.name ?? model, path, controller, {
    port: target?.port,
    chassis: target?.chassis,
    chassis_nr: target?.chassisNr,
    hotplug: onOff(target?.hotplug),
  })
}

function addController(command: Command, controller: Controller, path: string): void {
  const { type, index = 0, model } = controller
  const chipset = chipsetOf(command.def)
  switch (type) {
    case 'ide':
      only(controller, path, ['type', 'index', 'model', 'alias', 'address'])
      return
    case 'fdc':
      only(controller, path, ['type', 'index', 'alias', 'address'])
      // pc has one; q35 of QEMU none, and that of qemu-kvm gets one either way.
      if (chipset === 'q35' && command.has('isa-fdc')) command.add('-device', 'isa-fdc')
      return
    case 'sata':
      only(controller, path, ['type', 'index', 'alias', 'address'])
      if (index === 0 && chipset === 'q35') return
      command.addDevice('ahci', path, controller)
      return
    case 'usb':
      addUsb(command, controller, path)
      return
    case 'virtio-serial':
      only(controller, path, ['type', 'index', 'ports', 'vectors', 'alias', 'address'])
      command.addDevice('virtio-serial-pci', path, controller, {
        max_ports: controller.ports,
        vectors: controller.vectors,
      })
      return
    case 'scsi':
      only(controller, path, ['type', 'index', 'model', 'alias', 'address'])
      if (model !== undefined && model !== 'auto' && scsiDrivers[model] === undefined) {
        throw notYet(`${path}/@model`, `expected one of ${Object.keys(scsiDrivers).join(', ')}`)
      }
      command.addDevice(scsiDrivers[model ?? ''] ?? 'lsi', path, controller)
      return
    default:
      throw notYet(path, `controllers of type "${type}" are not there yet`)
  }
}

/** libvirt gives every PC a USB controller; one with nothing at it may be missing. */
function addUsb(command: Command, controller: Controller, path: string): void {
  const { model = '' } = controller
  if (model === 'none') return
  const driver = usbDrivers[model] ?? model
  if (command.has(driver)) {
    only(controller, path, ['type', 'index', 'model', 'ports', 'alias', 'address'])
    const xhci = model.endsWith('xhci') ? controller.ports : undefined
    command.addDevice(driver, path, controller, { p2: xhci, p3: xhci })
  } else {
    command.result.warnings.push(`${path}: the emulator has no USB; nothing is connected to it`)
  }
}

/** Graphics card, balloon, random numbers, watchdog and panic device. */
export function addOthers(command: Command): void {
  const { devices = {} } = command.def
  for (const [index, video] of (devices.videos ?? []).entries()) {
    const path = `/domain/devices/video[${index + 1}]`
    only(video, path, ['model', 'alias', 'address'])
    if (video.model?.type === 'none') continue
    if (video.model?.type !== 'vga')
      throw notYet(`${path}/model/@type`, 'expected one of vga, none')
    command.addDevice('VGA', path, video, {
      vgamem_mb: Math.ceil((video.model.vram ?? 16_384) / 1024),
    })
  }
  addBalloon(command)
  addRngs(command)
  for (const [index, watchdog] of (devices.watchdogs ?? []).entries()) {
    const path = `/domain/devices/watchdog[${index + 1}]`
    if (watchdog.model !== 'itco') command.addDevice(watchdog.model, path, watchdog)
    else if (chipsetOf(command.def) === 'q35') command.add('-global', 'ICH9-LPC.noreboot=off')
    else throw notYet(`${path}/@model`, '"itco" is a part of q35')
    command.add(
      '-action',
      `watchdog=${watchdog.action === 'dump' ? 'pause' : (watchdog.action ?? 'reset')}`,
    )
  }
  for (const [index, panic] of (devices.panics ?? []).entries()) {
    const path = `/domain/devices/panic[${index + 1}]`
    if (panic.model === 'isa') {
      const { address } = panic
      command.addDevice(
        'pvpanic',
        path,
        {},
        { ioport: address?.type === 'isa' ? address.iobase : undefined },
      )
    } else if (panic.model === 'pvpanic') command.addDevice('pvpanic-pci', path, panic)
    else throw notYet(`${path}/@model`, 'expected one of isa, pvpanic')
  }
}

function addBalloon(command: Command): void {
  const balloon = command.def.devices?.memballoon
  if (balloon === undefined || balloon.model === 'none') return
  const path = '/domain/devices/memballoon'
  only(balloon, path, ['model', 'autodeflate', 'freePageReporting', 'stats', 'alias', 'address'])
  command.addDevice('virtio-balloon-pci', path, balloon, {
    'deflate-on-oom': onOff(balloon.autodeflate),
    'free-page-reporting': onOff(balloon.freePageReporting),
  })
}

function addRngs(command: Command): void {
  for (const [index, rng] of (command.def.devices?.rngs ?? []).entries()) {
    addRng(command, rng, `/domain/devices/rng[${index + 1}]`)
  }
}

/** Adds one generator, and where its numbers come from. */
export function addRng(command: Command, rng: RandomGenerator, path: string): void {
  only(rng, path, ['model', 'rate', 'backend', 'alias', 'address'])
  const id = `obj${rng.alias?.name ?? ''}`
  const { backend, rate } = rng
  if (backend?.model === 'random') {
    command.addKeys('-object', 'rng-random', { id, filename: backend.value })
  } else if (backend?.model === 'builtin') command.addKeys('-object', 'rng-builtin', { id })
  else throw notYet(`${path}/backend/@model`, 'expected one of random, builtin')
  if (rate !== undefined && !command.features.tuning)
    throw notYet(`${path}/rate`, 'there are no limits')
  command.addDevice('virtio-rng-pci', path, rng, {
    rng: id,
    'max-bytes': rate?.bytes,
    period: rate === undefined ? undefined : (rate.period ?? 1000),
  })
}
