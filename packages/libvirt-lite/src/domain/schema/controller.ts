import { deviceInfo, virtioDriver } from './common.ts'
import { element, one, required, text } from './dsl.ts'
import * as s from './scalars.ts'
import type { ElementSpec } from './types.ts'

/** Models of each type of controller. */
export const controllerModels: Readonly<Record<string, readonly string[]>> = {
  pci: [
    'pci-root',
    'pcie-root',
    'pci-bridge',
    'dmi-to-pci-bridge',
    'pcie-to-pci-bridge',
    'pcie-root-port',
    'pcie-switch-upstream-port',
    'pcie-switch-downstream-port',
    'pci-expander-bus',
    'pcie-expander-bus',
  ],
  scsi: [
    'auto',
    'buslogic',
    'lsilogic',
    'lsisas1068',
    'vmpvscsi',
    'ibmvscsi',
    'virtio-scsi',
    'lsisas1078',
    'virtio-transitional',
    'virtio-non-transitional',
    'ncr53c90',
    'dc390',
    'am53c974',
  ],
  usb: [
    'piix3-uhci',
    'piix4-uhci',
    'ehci',
    'ich9-ehci1',
    'ich9-uhci1',
    'ich9-uhci2',
    'ich9-uhci3',
    'vt82c686b-uhci',
    'pci-ohci',
    'nec-xhci',
    'qusb1',
    'qusb2',
    'qemu-xhci',
    'none',
  ],
  ide: ['piix3', 'piix4', 'ich6'],
  'virtio-serial': ['virtio', 'virtio-transitional', 'virtio-non-transitional'],
  sata: [],
  fdc: [],
  ccid: [],
  xenbus: [],
  isa: [],
}

export const controller: ElementSpec = element(
  'controller',
  'what devices are connected to',
  {
    type: required(s.oneOf(...Object.keys(controllerModels))),
    index: s.uint(),
    model: s.str,
    ports: s.uint(),
    vectors: s.uint(),
    maxGrantFrames: s.uint(),
    maxEventChannels: s.uint(),
  },
  [
    text('pcihole64', 'KiB of addresses for 64-bit BARs', s.big),
    one(
      element('model', 'the device', { name: required(s.str) }, [], {
        typeName: 'ControllerModelName',
      }),
      { as: 'modelName' },
    ),
    one(
      element(
        'target',
        'properties of a PCI controller',
        {
          chassisNr: s.uint(255, 1),
          chassis: s.uint(255),
          port: s.hex(1, 255),
          busNr: s.uint(254, 1),
          index: s.uint(30),
          hotplug: s.onOff,
        },
        [text('node', 'NUMA node of an expander', s.uint())],
      ),
    ),
    one(element('master', 'where it is among its companions', { startport: required(s.uint()) })),
    one(
      element('driver', 'how the emulator offers it', {
        queues: s.uint(),
        cmd_per_lun: s.uint(),
        max_sectors: s.uint(),
        ioeventfd: s.onOff,
        iothread: s.uint(0xffff_ffff, 1),
        ...virtioDriver,
      }),
    ),
    ...deviceInfo,
  ],
)
