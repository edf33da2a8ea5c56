import { bootOrder, charBackend, charTypes, deviceInfo } from './common.ts'
import { element, live, one, required } from './dsl.ts'
import * as s from './scalars.ts'
import type { ElementSpec } from './types.ts'

const type = s.oneOf(...charTypes)

export const serial: ElementSpec = element('serial', 'a serial port', { type }, [
  ...charBackend,
  one(
    element(
      'target',
      'what the guest sees',
      {
        type: s.oneOf(
          'isa-serial',
          'usb-serial',
          'pci-serial',
          'spapr-vio-serial',
          'system-serial',
          'sclp-serial',
          'isa-debug',
        ),
        port: s.uint(),
      },
      [
        one(
          element('model', 'the device', {
            name: required(
              s.oneOf(
                'isa-serial',
                'usb-serial',
                'pci-serial',
                'spapr-vty',
                'pl011',
                '16550a',
                'sclpconsole',
                'sclplmconsole',
                'isa-debugcon',
              ),
            ),
          }),
        ),
      ],
    ),
  ),
  ...deviceInfo,
])

export const parallel: ElementSpec = element('parallel', 'a parallel port', { type }, [
  ...charBackend,
  one(element('target', 'what the guest sees', { port: s.uint() })),
  ...deviceInfo,
])

export const console: ElementSpec = element(
  'console',
  'a console: a serial port seen as one, or a port of a virtio-serial controller',
  { type, tty: live(s.str) },
  [
    ...charBackend,
    one(
      element('target', 'what the guest sees', {
        type: s.oneOf('serial', 'virtio', 'xen', 'uml', 'lxc', 'openvz', 'sclp', 'sclplm'),
        port: s.uint(),
      }),
    ),
    ...deviceInfo,
  ],
)

export const channel: ElementSpec = element(
  'channel',
  'a private channel between host and guest',
  { type },
  [
    ...charBackend,
    one(
      element('target', 'what the guest sees', {
        type: required(s.oneOf('virtio', 'guestfwd', 'xen')),
        name: s.str,
        state: live(s.oneOf('connected', 'disconnected')),
        address: s.address,
        port: s.uint(65_535),
      }),
    ),
    ...deviceInfo,
  ],
)

export const redirdev: ElementSpec = element(
  'redirdev',
  'a USB device of a client',
  { bus: s.oneOf('usb'), type },
  [...charBackend, one(bootOrder), ...deviceInfo],
  { typeName: 'RedirectedDevice' },
)

export const smartcard: ElementSpec = element(
  'smartcard',
  'a reader of smart cards',
  {
    mode: required(s.oneOf('host', 'host-certificates', 'passthrough')),
    type: s.oneOf(...charTypes),
  },
  [
    ...charBackend,
    { kind: 'text', key: 'certificate1', name: 'certificate', doc: 'a certificate', type: s.str },
    {
      kind: 'text',
      key: 'database',
      name: 'database',
      doc: 'folder of certificates',
      type: s.path,
    },
    ...deviceInfo,
  ],
)
