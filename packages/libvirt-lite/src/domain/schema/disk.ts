import {
  address,
  alias,
  bootOrder,
  hostAddress,
  reconnect,
  seclabel,
  virtioDriver,
} from './common.ts'
import { element, flag, live, many, one, optional, renamed, required, text } from './dsl.ts'
import * as s from './scalars.ts'
import type { ChildSpec, ElementSpec } from './types.ts'

const secret = element(
  'secret',
  'a secret, by its UUID or what it is for',
  { type: required(s.str), uuid: s.uuid, usage: s.str },
  [],
  { typeName: 'SecretReference' },
)

const auth = element('auth', 'who to log in as', { username: required(s.str) }, [one(secret)], {
  typeName: 'DiskAuth',
})

const encryption = element(
  'encryption',
  'encryption of the image',
  {
    format: required(s.oneOf('default', 'qcow', 'luks', 'luks2', 'luks-any')),
    engine: s.oneOf('qemu', 'librbd'),
  },
  [many(secret, 'secrets')],
  { typeName: 'DiskEncryption' },
)

const host = element(
  'host',
  'a server of a network disk',
  {
    name: s.str,
    port: s.uint(65_535),
    transport: optional(s.oneOf('tcp', 'unix', 'rdma'), 'tcp'),
    socket: s.str,
  },
  [],
  { typeName: 'NetworkHost' },
)

const protocols = [
  'nbd',
  'rbd',
  'sheepdog',
  'gluster',
  'iscsi',
  'http',
  'https',
  'ftp',
  'ftps',
  'tftp',
  'ssh',
  'vxhs',
  'nfs',
]

const sourceChildren: readonly ChildSpec[] = [
  one(hostAddress),
  many(host, 'hosts'),
  one(element('snapshot', 'a snapshot of an RBD image', { name: required(s.str) })),
  one(element('config', 'configuration of an RBD cluster', { file: required(s.str) })),
  one(auth),
  one(
    element(
      'reservations',
      'persistent reservations of SCSI',
      { managed: s.yesNo, migration: live(s.yesNo) },
      [
        one(
          element('source', 'the helper that makes them', {
            type: s.oneOf('unix'),
            path: s.str,
            mode: s.oneOf('client', 'server'),
          }),
        ),
      ],
    ),
  ),
  one(
    element('initiator', 'the initiator of iSCSI', {}, [
      one(element('iqn', 'its name', { name: required(s.str) })),
    ]),
  ),
  one(element('identity', 'who reads from an NFS server', { user: s.str, group: s.str })),
  one(
    element('slices', 'a part of the file', {}, [
      many(
        element('slice', 'bytes that are the image', {
          type: s.oneOf('storage'),
          offset: s.big,
          size: s.big,
        }),
        'slices',
      ),
    ]),
  ),
  one(element('ssl', 'checks of TLS', { verify: s.yesNo })),
  one(
    element('cookies', 'cookies for an HTTP server', {}, [
      many(
        element('cookie', 'one of them', { name: required(s.str) }, [], { text: s.str }),
        'cookies',
      ),
    ]),
  ),
  one(element('readahead', 'bytes that are read ahead', { size: required(s.big) })),
  one(element('timeout', 'patience with the server', { seconds: required(s.big) })),
  many(seclabel, 'seclabels'),
  one(encryption),
  one(reconnect),
]

/** Attributes of all kinds of sources; which of them counts is said by the type of the disk. */
const sourceAttributes = {
  file: s.str,
  dev: s.str,
  dir: s.str,
  protocol: s.oneOf(...protocols),
  name: s.str,
  query: s.str,
  tls: s.yesNo,
  pool: s.str,
  volume: s.str,
  mode: s.oneOf('host', 'direct'),
  type: s.oneOf('pci', 'unix'),
  managed: s.yesNo,
  namespace: s.big,
  path: s.str,
  startupPolicy: optional(s.oneOf('default', 'mandatory', 'requisite', 'optional'), 'default'),
  index: live(s.uint()),
}

const source = element('source', 'what the disk is made of', sourceAttributes, sourceChildren, {
  typeName: 'DiskSource',
})

const types = ['file', 'block', 'dir', 'network', 'volume', 'nvme', 'vhostuser']
const formats = [
  'raw',
  'dir',
  'bochs',
  'cloop',
  'dmg',
  'iso',
  'vpc',
  'vdi',
  'fat',
  'vhd',
  'ploop',
  'cow',
  'qcow',
  'qcow2',
  'qed',
  'vmdk',
  'luks',
]

const format = element('format', 'format of the image', {
  type: required(s.oneOf(...formats)),
})

/** A chain of any length, so the schema refers to itself. */
const backingChildren: ChildSpec[] = [one(format), one(source)]
const backingStore: ElementSpec = element(
  'backingStore',
  'the image below; empty when there is none',
  { type: s.oneOf(...types), index: live(s.uint()) },
  backingChildren,
  { keepEmpty: true, typeName: 'BackingStore' },
)
backingChildren.push(one(backingStore))

const limits = ['bytes_sec', 'iops_sec'].flatMap((what) =>
  ['total', 'read', 'write'].map((which) => `${which}_${what}`),
)
const limit = (name: string) => text(name, 'a limit', s.big)

const iotune = element('iotune', 'limits of bytes and requests per second', {}, [
  ...limits.map((name) => limit(name)),
  ...limits.map((name) => limit(`${name}_max`)),
  limit('size_iops_sec'),
  text('group_name', 'disks with the same name share the limits', s.str),
  ...limits.map((name) => limit(`${name}_max_length`)),
])

const policies = ['default', 'stop', 'report', 'ignore', 'enospace']

const driver = element('driver', 'how the emulator reads and writes it', {
  name: s.oneOf('qemu', 'tap', 'tap2', 'phy', 'file'),
  type: s.oneOf(...formats, 'aio'),
  cache: optional(
    s.oneOf('default', 'none', 'writethrough', 'writeback', 'directsync', 'unsafe'),
    'default',
  ),
  error_policy: optional(s.oneOf(...policies), 'default'),
  rerror_policy: optional(s.oneOf('default', 'stop', 'report', 'ignore'), 'default'),
  io: optional(s.oneOf('default', 'native', 'threads', 'io_uring'), 'default'),
  ioeventfd: s.onOff,
  event_idx: s.onOff,
  copy_on_read: s.onOff,
  discard: optional(s.oneOf('default', 'unmap', 'ignore'), 'default'),
  iothread: s.uint(0xffff_ffff, 1),
  detect_zeroes: optional(s.oneOf('default', 'off', 'on', 'unmap'), 'default'),
  queues: s.uint(0xffff_ffff, 1),
  queue_size: s.uint(),
  ...virtioDriver,
})

const target = element('target', 'what the guest sees', {
  dev: required(
    s.pattern(/^(ioemu:)?(fd|hd|sd|vd|xvd|ubd)[a-z]{1,4}\d*$/, 'a name such as vda, sda, hda, fda'),
  ),
  bus: s.oneOf('ide', 'fdc', 'scsi', 'virtio', 'xen', 'usb', 'uml', 'sata', 'sd'),
  tray: optional(s.oneOf('closed', 'open'), 'closed'),
  removable: s.onOff,
  rotation_rate: s.uint(65_534, 1),
})

export const disk: ElementSpec = element(
  'disk',
  'a disk, CD drive or floppy drive',
  {
    type: s.oneOf(...types),
    device: s.oneOf('disk', 'lun', 'cdrom', 'floppy'),
    model: s.oneOf('virtio', 'virtio-transitional', 'virtio-non-transitional'),
    rawio: s.yesNo,
    sgio: s.oneOf('filtered', 'unfiltered'),
    snapshot: s.oneOf('no', 'internal', 'external', 'manual'),
  },
  [
    one(driver),
    one(auth),
    one(source),
    one(backingStore),
    one(element('backenddomain', 'a driver domain of Xen', { name: required(s.str) })),
    one(
      element('geometry', 'cylinders, heads and sectors of a track', {
        cyls: required(s.uint()),
        heads: required(s.uint()),
        secs: required(s.uint()),
        trans: optional(s.oneOf('default', 'none', 'auto', 'lba'), 'default'),
      }),
    ),
    one(
      element('blockio', 'sizes of blocks', {
        logical_block_size: s.uint(),
        physical_block_size: s.uint(),
        discard_granularity: s.uint(),
      }),
    ),
    one(target),
    one(iotune),
    flag('readonly', 'the guest cannot write'),
    flag('shareable', 'other domains have it at the same time'),
    one(
      element(
        'transient',
        'what the guest writes is forgotten at the end',
        { shareBacking: renamed(s.yesNo, 'shareBacking') },
        [],
        { keepEmpty: true },
      ),
    ),
    text(
      'serial',
      'serial number that the guest sees',
      s.pattern(/^[\w. +-]*$/, 'letters, digits, and any of _.+- and spaces'),
    ),
    text('wwn', 'World Wide Name', s.pattern(/^[\da-fA-F]{16}$/, '16 hexadecimal digits')),
    text(
      'vendor',
      'vendor of a SCSI disk',
      s.pattern(/^[ -~]{0,8}$/, 'at most 8 printable characters'),
    ),
    text(
      'product',
      'product of a SCSI disk',
      s.pattern(/^[ -~]{0,16}$/, 'at most 16 printable characters'),
    ),
    one(encryption),
    one(bootOrder),
    one(alias),
    one(address),
  ],
)
