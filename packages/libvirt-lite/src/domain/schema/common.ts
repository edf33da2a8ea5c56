import { element, elementByType, live, many, one, required } from './dsl.ts'
import * as s from './scalars.ts'
import type { AttributeEntry } from './dsl.ts'
import type { ChildSpec, ElementSpec } from './types.ts'

const pci = {
  domain: s.hex(4, 0xffff),
  bus: s.hex(2, 0xff),
  slot: s.hex(2, 0x1f),
  function: s.hex(1, 7),
}

/** Where a device is for the guest. */
export const address: ElementSpec = elementByType(
  'address',
  'where the device is for the guest',
  {
    pci: { ...pci, multifunction: s.onOff },
    drive: { controller: s.uint(), bus: s.uint(), target: s.uint(), unit: s.uint() },
    'virtio-serial': { controller: s.uint(), bus: s.uint(), port: s.uint() },
    ccid: { controller: s.uint(), slot: s.uint() },
    usb: { bus: s.uint(), port: s.pattern(/^\d+(\.\d+){0,3}$/, 'a port such as 1 or 1.2') },
    isa: { iobase: s.io, irq: s.io },
    dimm: { slot: s.uint(), base: s.io },
    'virtio-mmio': {},
    unassigned: {},
  },
  { typeName: 'DeviceAddress' },
)

// The base of the number depends on the kind of device, so the text is kept and put right later.
const number = s.pattern(/^(0x[\da-fA-F]+|\d+)$/, 'a number, decimal or with 0x in front')

/** An address of a device of the host. */
export const hostAddress: ElementSpec = element(
  'address',
  'a device of the host',
  {
    type: s.oneOf('pci'),
    domain: number,
    bus: number,
    slot: number,
    function: number,
    device: number,
    target: number,
    unit: number,
    uuid: s.uuid,
  },
  [],
  { typeName: 'HostAddress' },
)

export const alias: ElementSpec = element(
  'alias',
  'the name of the device in the emulator; one of the user begins with ua-',
  { name: required(s.pattern(/^[a-zA-Z0-9_.:-]+$/, 'letters, digits, and any of _.:-')) },
  [],
  { typeName: 'Alias' },
)

/** Place of a device in the order of booting. */
export const bootOrder: ElementSpec = element(
  'boot',
  'place in the order in which firmware tries devices',
  { order: required(s.uint(0xffff_ffff, 1)), loadparm: s.str },
  [],
  { typeName: 'DeviceBoot' },
)

/** Attributes of the driver of any virtio device. */
export const virtioDriver: Readonly<Record<string, AttributeEntry>> = {
  iommu: s.onOff,
  ats: s.onOff,
  packed: s.onOff,
  page_per_vq: s.onOff,
}

/** The driver of a virtio device that has nothing but what all have. */
export const plainVirtioDriver: ElementSpec = element(
  'driver',
  'how the emulator offers the device',
  virtioDriver,
  [],
  { typeName: 'VirtioDriver' },
)

export const seclabel: ElementSpec = element(
  'seclabel',
  'label of a security driver',
  {
    type: s.oneOf('dynamic', 'static', 'none'),
    model: s.str,
    relabel: s.yesNo,
    labelskip: live(s.yesNo),
  },
  [
    { kind: 'text', key: 'label', name: 'label', doc: 'the label', type: s.str },
    {
      kind: 'text',
      key: 'baselabel',
      name: 'baselabel',
      doc: 'what labels begin with',
      type: s.str,
    },
    {
      kind: 'text',
      key: 'imagelabel',
      name: 'imagelabel',
      doc: 'label of images',
      type: s.str,
      live: true,
    },
  ],
  { typeName: 'SecurityLabel' },
)

export const rom: ElementSpec = element(
  'rom',
  'the option ROM of a PCI device',
  { enabled: s.yesNo, bar: s.onOff, file: s.str },
  [],
  { typeName: 'OptionRom' },
)

/** What ends the description of nearly every device. */
export const deviceInfo: readonly ChildSpec[] = [one(alias), one(address)]

/** The same for those that can be booted from and have an option ROM. */
export const bootableInfo: readonly ChildSpec[] = [
  one(bootOrder),
  one(alias),
  one(rom),
  one(address),
]

export const reconnect: ElementSpec = element(
  'reconnect',
  'whether and when to connect again',
  { enabled: required(s.yesNo), timeout: s.uint() },
  [],
  { typeName: 'Reconnect' },
)

/** Where the bytes of a character device come from. */
export const charSource: ElementSpec = element(
  'source',
  'where the bytes come from and go to',
  {
    mode: s.oneOf('bind', 'connect'),
    path: s.str,
    host: s.str,
    service: s.str,
    channel: s.str,
    tls: s.yesNo,
    tlsFromConfig: live(s.str),
    append: s.onOff,
  },
  [
    one(element('clipboard', 'the clipboard of host and guest', { copypaste: s.yesNo })),
    one(element('mouse', 'who draws the pointer', { mode: s.oneOf('server', 'client') })),
    one(reconnect),
    many(seclabel, 'seclabels'),
  ],
  { typeName: 'CharacterSource' },
)

export const charTypes: readonly string[] = [
  'null',
  'vc',
  'pty',
  'dev',
  'file',
  'pipe',
  'stdio',
  'udp',
  'tcp',
  'unix',
  'spicevmc',
  'spiceport',
  'nmdm',
  'qemu-vdagent',
  'dbus',
]

/** What a character device has before its target. */
export const charBackend: readonly ChildSpec[] = [
  many(charSource, 'sources'),
  one(
    element(
      'protocol',
      'what is spoken over TCP',
      { type: s.oneOf('raw', 'telnet', 'telnets', 'tls') },
      [],
      { typeName: 'CharacterProtocol' },
    ),
  ),
  one(
    element(
      'log',
      'a file with everything that came',
      { file: required(s.path), append: s.onOff },
      [],
      {
        typeName: 'CharacterLog',
      },
    ),
  ),
]
