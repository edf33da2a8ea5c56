import { bootOrder, alias, address, deviceInfo, hostAddress, rom, virtioDriver } from './common.ts'
import { element, flag, many, one, required, text } from './dsl.ts'
import * as s from './scalars.ts'
import type { ElementSpec } from './types.ts'

export const hostdev: ElementSpec = element(
  'hostdev',
  'a device of the host that the guest has for itself',
  {
    mode: s.oneOf('subsystem', 'capabilities'),
    type: required(s.oneOf('usb', 'pci', 'scsi', 'scsi_host', 'mdev', 'storage', 'misc', 'net')),
    managed: s.yesNo,
    model: s.wordLike('vfio-pci', 'vfio-ccw', 'vfio-ap', 'virtio'),
    display: s.onOff,
    ramfb: s.onOff,
    sgio: s.oneOf('filtered', 'unfiltered'),
    rawio: s.yesNo,
  },
  [
    one(element('driver', 'the driver of the host', { name: s.oneOf('vfio', 'kvm', 'xen') })),
    one(
      element(
        'source',
        'which device it is',
        {
          startupPolicy: s.oneOf('mandatory', 'requisite', 'optional'),
          writeFiltering: s.yesNo,
          guestReset: s.oneOf('default', 'uninitialized', 'off'),
          protocol: s.oneOf('vhost', 'iscsi'),
          wwpn: s.str,
          name: s.str,
        },
        [
          one(element('vendor', 'vendor of a USB device', { id: required(s.hex(4, 0xffff)) })),
          one(element('product', 'product of a USB device', { id: required(s.hex(4, 0xffff)) })),
          one(element('adapter', 'a SCSI adapter', { name: required(s.str) })),
          one(hostAddress),
          one(element('host', 'a server of iSCSI', { name: s.str, port: s.uint(65_535) })),
          text('block', 'a storage device', s.path),
          text('char', 'a character device', s.path),
          text('interface', 'a network card', s.str),
        ],
      ),
    ),
    flag('readonly', 'the guest cannot write'),
    flag('shareable', 'other domains have it at the same time'),
    one(bootOrder),
    one(alias),
    one(rom),
    one(address),
    one(
      element('teaming', 'two cards that stand in for each other', {
        type: required(s.oneOf('persistent', 'transient')),
        persistent: s.str,
      }),
    ),
  ],
  { typeName: 'HostDevice' },
)

export const filesystem: ElementSpec = element(
  'filesystem',
  'a folder of the host',
  {
    type: s.oneOf('mount', 'block', 'file', 'template', 'ram', 'bind', 'volume'),
    accessmode: s.oneOf('passthrough', 'mapped', 'squash'),
    model: s.oneOf('virtio', 'virtio-transitional', 'virtio-non-transitional'),
    multidevs: s.oneOf('remap', 'forbid', 'warn'),
    fmode: s.pattern(/^[0-7]{1,4}$/, 'permissions in octal, such as 0644'),
    dmode: s.pattern(/^[0-7]{1,4}$/, 'permissions in octal, such as 0755'),
  },
  [
    one(
      element('driver', 'how it is shared', {
        type: s.oneOf('path', 'handle', 'loop', 'nbd', 'ploop', 'virtiofs'),
        format: s.str,
        wrpolicy: s.oneOf('immediate'),
        queue: s.uint(),
        ...virtioDriver,
      }),
    ),
    one(
      element('binary', 'the program that shares it', { path: s.path, xattr: s.onOff }, [
        one(element('cache', 'what it keeps', { mode: s.oneOf('none', 'always') })),
        one(element('sandbox', 'how it is shut in', { mode: s.oneOf('namespace', 'chroot') })),
        one(element('lock', 'what locks it has', { posix: s.onOff, flock: s.onOff })),
        one(element('thread_pool', 'its threads', { size: s.uint() })),
      ]),
    ),
    one(
      element('source', 'the folder', {
        dir: s.str,
        dev: s.str,
        file: s.str,
        name: s.str,
        socket: s.str,
        pool: s.str,
        volume: s.str,
        usage: s.uint(),
        units: s.str,
      }),
    ),
    one(element('target', 'name by which the guest mounts it', { dir: required(s.str) })),
    flag('readonly', 'the guest cannot write'),
    text('space_hard_limit', 'bytes it may have', s.big),
    text('space_soft_limit', 'bytes it should have', s.big),
    ...deviceInfo,
  ],
)

export const redirfilter: ElementSpec = element(
  'redirfilter',
  'which USB devices of a client are let in',
  {},
  [
    many(
      element('usbdev', 'a rule', {
        class: s.hex(2, 255),
        vendor: s.hex(4, 0xffff),
        product: s.hex(4, 0xffff),
        version: s.pattern(/^(\d{1,2}\.\d{1,2}|-1)$/, 'a version such as 2.0'),
        allow: required(s.yesNo),
      }),
      'rules',
    ),
  ],
)

export const lease: ElementSpec = element('lease', 'a lock of a lock manager', {}, [
  text('lockspace', 'the lock space', s.str),
  text('key', 'name of the lock', s.str),
  one(element('target', 'the file of locks', { path: required(s.path), offset: s.big })),
])
