import { element, many, one, optional, raw, required, text } from './dsl.ts'
import * as s from './scalars.ts'
import type { ElementSpec } from './types.ts'

const format = s.oneOf('raw', 'qcow2')

export const os: ElementSpec = element(
  'os',
  'what is booted, and on which machine',
  { firmware: s.oneOf('bios', 'efi') },
  [
    one(
      element('type', 'kind of guest', { arch: s.str, machine: s.str }, [], {
        text: s.oneOf('hvm', 'xen', 'linux', 'xenpvh', 'exe', 'uml'),
      }),
    ),
    one(
      element('firmware', 'what firmware must be able to', {}, [
        many(
          element('feature', 'one of its features', {
            enabled: required(s.yesNo),
            name: required(s.oneOf('enrolled-keys', 'secure-boot')),
          }),
          'features',
        ),
      ]),
      { as: 'firmwareFeatures' },
    ),
    text('init', 'first program of a container', s.str),
    one(
      element(
        'loader',
        'the firmware',
        {
          readonly: s.yesNo,
          secure: s.yesNo,
          type: s.oneOf('rom', 'pflash'),
          stateless: s.yesNo,
          format: optional(format, 'raw'),
        },
        [],
        { text: s.str },
      ),
    ),
    one(
      element(
        'nvram',
        'variables of the firmware',
        {
          type: s.oneOf('file', 'block', 'network'),
          template: s.path,
          format: optional(format, 'raw'),
        },
        [raw('source', 'where they are, when that is no file')],
        { text: s.str },
      ),
    ),
    text('kernel', 'a kernel that is booted directly', s.str),
    text('initrd', 'its initial RAM disk', s.str),
    text('cmdline', 'its command line', s.str),
    text('dtb', 'a device tree', s.str),
    one(
      element('acpi', 'more ACPI tables', {}, [
        many(
          element('table', 'a file with one', { type: required(s.oneOf('slic')) }, [], {
            text: s.path,
          }),
          'tables',
        ),
      ]),
    ),
    many(
      element('boot', 'a kind of drive that firmware boots', {
        dev: required(s.oneOf('fd', 'hd', 'cdrom', 'network')),
      }),
      'boots',
    ),
    one(
      element('bootmenu', 'a menu of the firmware', { enable: s.yesNo, timeout: s.uint(65_535) }),
    ),
    one(
      element('bios', 'settings of the firmware', {
        useserial: s.yesNo,
        rebootTimeout: s.int(-1, 65_535),
      }),
    ),
    one(
      element('smbios', 'where tables of SMBIOS come from', {
        mode: required(s.oneOf('emulate', 'host', 'sysinfo')),
      }),
    ),
  ],
  { typeName: 'OperatingSystem' },
)

const entries = many(
  element('entry', 'a value', { name: s.str, file: s.str }, [], {
    text: s.str,
    typeName: 'SysinfoEntry',
  }),
  'entries',
)

const block = (name: string) =>
  element(name, `the table of ${name}`, {}, [entries], { typeName: 'SysinfoTable' })

export const sysinfo: ElementSpec = element(
  'sysinfo',
  'what the guest is told of its hardware',
  { type: required(s.oneOf('smbios', 'fwcfg')) },
  [
    one(block('bios')),
    one(block('system')),
    many(block('baseBoard'), 'baseBoards'),
    one(block('chassis')),
    one(block('oemStrings')),
    entries,
  ],
  { typeName: 'SystemInformation' },
)
