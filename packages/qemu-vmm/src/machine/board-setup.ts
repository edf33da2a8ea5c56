import type { CpuidEntry } from 'kvm-core'

import type { DeviceDefinition } from '../device.ts'
import { DeviceTree } from './device-tree.ts'
import type { DeletedDevice, PlugParts } from './device-tree.ts'
import { BootIndex } from './boot-index.ts'
import { DEFAULT_BOOT_ORDER, setBootCmos } from './boot-options.ts'
import type { Bus } from './bus.ts'
import type { MachineConfig } from './config.ts'
import type { FlashChip } from './flash-chips.ts'
import { setDiskCmos, setFloppyCmos } from './cmos.ts'
import { mapFwCfg } from './fw-cfg.ts'
import { deviceMemory } from './guest-view.ts'
import { machineKind } from './machine-type.ts'
import { machineRoms } from './option-roms.ts'
import { rtcOptions, rtcStart } from './rtc-setup.ts'
import { runsFirmware } from './runs-firmware.ts'
import { PCI_PATH } from '../devices/pci-address.ts'
import { floppyController } from '../devices/floppy.ts'
import { isaSerial } from '../devices/serial.ts'
import { logGuestErrors } from './guest-errors.ts'
import { PcBoard } from './pc.ts'
import type { BoardConfig } from './pc.ts'

/** A board with everything that the configuration adds to it. */
export interface FullBoard {
  board: PcBoard
  chips: readonly FlashChip[]
  tree: DeviceTree
}

/** What the board and its devices are built from. */
export type BoardParts = Omit<BoardConfig, 'serial'> &
  Omit<
    PlugParts,
    | 'bus'
    | 'pci'
    | 'pciBuses'
    | 'chassisSlots'
    | 'acpiHotplug'
    | 'bootIndex'
    | 'ataBuses'
    | 'displays'
    | 'isaDevices'
    | 'dma'
    | 'floppy'
    | 'balloon'
    | 'firmwareFolders'
    | 'optionRoms'
    | 'runsFirmware'
  > & {
    config: MachineConfig
    /** What processors say of themselves. */
    cpuid: readonly CpuidEntry[]
    /** Puts the flash chips of the board on its bus. */
    flash(bus: Bus): readonly FlashChip[]
    devices: readonly DeviceDefinition[]
    /** A device that was plugged in is gone. */
    deleted(device: DeletedDevice): void
  }

/** Builds the board, then custom devices, then what options plug in. */
export function setUpBoard(parts: BoardParts): FullBoard {
  const { config, devices, exit, irqs, clock, map, places, actions, entropy, log, memory } = parts
  const { serial = [] } = config
  const { shadow, smm, sendMessage, setPit, latches, postGates } = parts
  const board = new PcBoard({
    kind: machineKind(config.machine).board,
    sendMessage,
    irqs,
    clock,
    map,
    places,
    actions,
    memory,
    serial,
    onlyConnected:
      config.onlyConnectedSerial === true ||
      (config.plug?.some(({ driver }) => driver === isaSerial.name) ?? false),
    hasAcpi: config.machine?.options?.acpi ?? true,
    portsByAcpi: config.machine?.options?.acpiPciHotplug ?? true,
    smbaseSmram: config.machine?.options?.smbaseSmram ?? true,
    ...hpetOptions(config),
    rtc: rtcOptions(config, clock),
    ...(setPit === undefined ? {} : { setPit }),
    ...(latches === undefined ? {} : { latches }),
    ...(postGates === undefined ? {} : { postGates }),
    ...(shadow === undefined ? {} : { shadow }),
    ...(smm === undefined ? {} : { smm }),
  })
  setBootCmos(board.rtc, config.boot?.once ?? config.boot?.order ?? DEFAULT_BOOT_ORDER)
  const base = rtcStart(config, clock)
  if (base !== undefined) board.rtc.setNow(base)
  for (const definition of devices) {
    board.addCustomDevice(definition, {
      ram: deviceMemory(memory),
      clock,
      entropy,
      log: (message) => log(`${definition.name}: ${message}`),
      exit,
    })
  }
  const bootIndex = new BootIndex()
  const { bus, pci, chipset } = board
  const context: PlugParts = {
    ...parts,
    bus,
    pci,
    pciBuses: new Map([
      [chipset.pciBusName, { name: chipset.pciBusName, bus: pci, path: PCI_PATH }],
    ]),
    chassisSlots: new Map(),
    ...(chipset.acpiHotplug === undefined ? {} : { acpiHotplug: chipset.acpiHotplug }),
    bootIndex,
    ataBuses: [...chipset.ataBuses],
    displays: board.displays,
    isaDevices: board.isaDevices,
    dma: board.dma,
    floppy: { types: [0, 0] },
    balloon: board.balloon,
    firmwareFolders: config.firmwareFolders ?? [],
    optionRoms: machineRoms(config, bootIndex),
    runsFirmware: runsFirmware(config),
  }
  const tree = new DeviceTree(context)
  if (board.kind === 'i440fx') floppyController(context)
  tree.plugAll(config.plug ?? [])
  const { controller } = context.floppy
  if (controller !== undefined) board.addPlugged('isa-fdc', controller)
  const { optionRoms } = context
  const fwCfg = mapFwCfg(board, deviceMemory(memory), { ...parts, bootIndex, optionRoms })
  board.addPlugged('fw-cfg', fwCfg)
  const chips = parts.flash(bus)
  for (const chip of chips) board.addPlugged(chip.name, chip)
  tree.follow({
    added: (name, device) => board.addPlugged(name, device),
    removed: (name) => board.removePlugged(name),
    deleted: (device) => parts.deleted(device),
    log,
  })
  const { acpiHotplug } = chipset
  if (acpiHotplug !== undefined) acpiHotplug.onEject = (from, slot) => tree.release(from, slot)
  setFloppyCmos(board.rtc, context.floppy.types)
  if (chipset.ide !== undefined) setDiskCmos(board.rtc, chipset.ide)
  logGuestErrors(board.bus, config.logItems ?? [], log)
  return { board, chips, tree }
}

function hpetOptions({ machine }: MachineConfig): Pick<BoardConfig, 'hpet'> {
  const { hpet = true, hpetTimers: timers, hpetMsi: msi = false } = machine?.options ?? {}
  return hpet ? { hpet: timers === undefined ? { msi } : { timers, msi } } : {}
}
