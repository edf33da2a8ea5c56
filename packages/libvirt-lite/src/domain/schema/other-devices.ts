import { charBackend, charTypes, deviceInfo, plainVirtioDriver, virtioDriver } from './common.ts'
import { element, flag, one, required, text } from './dsl.ts'
import * as s from './scalars.ts'
import type { ElementSpec } from './types.ts'

const virtioModels = ['virtio', 'virtio-transitional', 'virtio-non-transitional'] as const

export const memballoon: ElementSpec = element(
  'memballoon',
  'the device by which memory is taken from the guest and given back',
  {
    model: required(s.oneOf(...virtioModels, 'xen', 'none')),
    autodeflate: s.onOff,
    freePageReporting: s.onOff,
  },
  [
    one(element('stats', 'statistics of the guest', { period: required(s.uint()) })),
    ...deviceInfo,
    one(plainVirtioDriver),
  ],
  { typeName: 'MemoryBalloon' },
)

export const rng: ElementSpec = element(
  'rng',
  'a source of random numbers',
  { model: required(s.oneOf(...virtioModels)) },
  [
    one(element('rate', 'the most it gives', { bytes: required(s.uint()), period: s.uint() })),
    one(
      element(
        'backend',
        'where they come from',
        { model: required(s.oneOf('random', 'egd', 'builtin')), type: s.oneOf(...charTypes) },
        charBackend,
        { text: s.str },
      ),
    ),
    one(plainVirtioDriver),
    ...deviceInfo,
  ],
  { typeName: 'RandomGenerator' },
)

export const watchdog: ElementSpec = element(
  'watchdog',
  'what resets a guest that hangs',
  {
    model: required(s.oneOf('i6300esb', 'ib700', 'diag288', 'itco')),
    action: s.oneOf('reset', 'shutdown', 'poweroff', 'pause', 'none', 'dump', 'inject-nmi'),
  },
  deviceInfo,
)

export const panic: ElementSpec = element(
  'panic',
  'by which the guest tells that its kernel has panicked',
  { model: s.oneOf('isa', 'pseries', 'hyperv', 's390', 'pvpanic') },
  deviceInfo,
  { keepEmpty: true },
)

export const hub: ElementSpec = element(
  'hub',
  'a USB hub',
  { type: required(s.oneOf('usb')) },
  deviceInfo,
)

export const vsock: ElementSpec = element(
  'vsock',
  'sockets between host and guest',
  { model: s.oneOf(...virtioModels) },
  [
    one(element('cid', 'number of the guest', { auto: s.yesNo, address: s.uint(0xffff_ffff, 3) })),
    one(plainVirtioDriver),
    ...deviceInfo,
  ],
)

export const shmem: ElementSpec = element(
  'shmem',
  'memory that guests share',
  {
    name: required(s.pattern(/^[^/]+$/, 'a name without a slash')),
    role: s.oneOf('master', 'peer'),
  },
  [
    one(
      element('model', 'the device', {
        type: required(s.oneOf('ivshmem', 'ivshmem-plain', 'ivshmem-doorbell')),
      }),
    ),
    one(element('size', 'how much it is', { unit: s.str }, [], { text: s.big })),
    one(element('server', 'the server that gives it', { path: s.path })),
    one(element('msi', 'interrupts', { enabled: s.onOff, vectors: s.uint(), ioeventfd: s.onOff })),
    ...deviceInfo,
  ],
  { typeName: 'SharedMemory' },
)

export const memoryDevice: ElementSpec = element(
  'memory',
  'a module of memory',
  {
    model: required(s.oneOf('dimm', 'nvdimm', 'virtio-pmem', 'virtio-mem', 'sgx-epc')),
    access: s.oneOf('shared', 'private'),
    discard: s.yesNo,
  },
  [
    text('uuid', 'UUID of it', s.uuid),
    one(
      element('source', 'what it is made of', {}, [
        text('path', 'a file', s.path),
        text('nodemask', 'nodes of the host', s.str),
        one(element('pagesize', 'size of pages', { unit: s.str }, [], { text: s.big })),
        one(element('alignsize', 'alignment', { unit: s.str }, [], { text: s.big })),
        flag('pmem', 'it is persistent'),
      ]),
    ),
    one(
      element('target', 'what the guest sees', {}, [
        one(element('size', 'how much it is', { unit: s.str }, [], { text: s.big })),
        text('node', 'the node of the guest', s.uint()),
        one(
          element('label', 'labels of it', {}, [
            one(element('size', 'how much they have', { unit: s.str }, [], { text: s.big })),
          ]),
        ),
        one(element('block', 'size of blocks', { unit: s.str }, [], { text: s.big })),
        one(element('requested', 'how much is used', { unit: s.str }, [], { text: s.big })),
        flag('readonly', 'the guest cannot write'),
      ]),
    ),
    ...deviceInfo,
  ],
  { typeName: 'MemoryDevice' },
)

const banks = ['sha1', 'sha256', 'sha384', 'sha512'].map((name) => flag(name, 'a bank'))

export const tpm: ElementSpec = element(
  'tpm',
  'a Trusted Platform Module',
  { model: s.oneOf('tpm-tis', 'tpm-crb', 'tpm-spapr', 'spapr-tpm-proxy') },
  [
    one(
      element(
        'backend',
        'who answers',
        {
          type: required(s.oneOf('passthrough', 'emulator', 'external')),
          version: s.oneOf('1.2', '2.0'),
          persistent_state: s.yesNo,
        },
        [
          one(element('device', 'the one of the host', { path: required(s.path) })),
          one(element('encryption', 'of its state', { secret: required(s.uuid) })),
          one(element('active_pcr_banks', 'banks that are used', {}, banks)),
        ],
      ),
    ),
    ...deviceInfo,
  ],
)

export const iommu: ElementSpec = element(
  'iommu',
  'an IOMMU that the guest sees',
  { model: required(s.oneOf('intel', 'smmuv3', 'virtio')) },
  [
    one(
      element('driver', 'how the emulator offers it', {
        intremap: s.onOff,
        caching_mode: s.onOff,
        eim: s.onOff,
        iotlb: s.onOff,
        aw_bits: s.uint(),
      }),
    ),
    ...deviceInfo,
  ],
)

export const crypto: ElementSpec = element(
  'crypto',
  'a device that encrypts',
  { model: s.oneOf('virtio'), type: s.oneOf('qemu') },
  [
    one(
      element('backend', 'who does it', {
        model: required(s.oneOf('builtin', 'lkcf')),
        queues: s.uint(),
      }),
    ),
    one(
      element('driver', 'how the emulator offers it', virtioDriver, [], {
        typeName: 'VirtioDriver',
      }),
    ),
    ...deviceInfo,
  ],
)

export const nvram: ElementSpec = element('nvram', 'memory of firmware, on POWER', {}, deviceInfo, {
  keepEmpty: true,
})
