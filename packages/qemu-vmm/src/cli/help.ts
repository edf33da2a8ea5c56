import type { KeySpec, OptionGroup, OptionSpec } from './option.ts'

/** What the options cannot say about themselves. */
const NOTES: readonly string[] = [
  '## Keys of the terminal',
  '',
  'With `-nographic` or `-serial mon:stdio` the terminal belongs to the guest, Ctrl-C included.',
  'Ctrl-A begins a command; `-echr` chooses another character.',
  '',
  '| keys | what they do |',
  '|---|---|',
  '| Ctrl-A h | show this list |',
  '| Ctrl-A x | end the program |',
  '| Ctrl-A c | switch between the serial port and the monitor |',
  '| Ctrl-A b | send a break to the serial port |',
  '| Ctrl-A t | put the time in front of each line, or stop that |',
  '| Ctrl-A s | nothing yet: there are no disks to save |',
  '| Ctrl-A Ctrl-A | send Ctrl-A |',
  '',
  'With `-display curses` the keys belong to the PC keyboard, in the layout of the USA; Ctrl-A x ends the',
  'program and Ctrl-A Ctrl-A sends Ctrl-A.',
  '',
  'The mode of the terminal is put back at every end except SIGKILL; `stty sane` helps then.',
  '',
  '## Exit status and signals',
  '',
  '| status | when |',
  '|---|---|',
  '| 0 | the guest powered off, or reset with `-no-reboot`; `quit`, Ctrl-A x, SIGINT, SIGTERM, SIGHUP |',
  '| 1 | a wrong command line, a machine that cannot start, a failure of the machine |',
  '| other | chosen by a debug device |',
  '',
  'A second signal ends the program at once. `QEMU_KVM_DEBUG=1` in the environment adds a stack to',
  'the message of an internal error.',
  '',
  '## Where this differs from QEMU',
  '',
  '- `-m 0` is refused; QEMU takes it for the default size.',
  '- `-smp 0` and other topology numbers of 0 are refused; QEMU warns and takes them as not given.',
  '- A file that is not a socket is never replaced by one; QEMU deletes whatever is at the path.',
  '- A peer of a socket or terminal that takes nothing for ten seconds loses output; QEMU lets the guest wait.',
  '- Telnet says the byte 255 of a guest twice, and takes subnegotiations and two-byte commands out, as RFC 854 has it; QEMU does not.',
  '- Ports are numbers up to 65535, not names of services; QEMU takes 70000 for 4464. IPv6 addresses can be in brackets.',
  '- A name in no folder (`abstract=on`) needs `tight=off`, as Node.js fills it up with zeros.',
  '- A memory backend that the machine does not use is refused.',
  '- There is no window: without `-display` and `-nographic` the terminal shows the screen, as with `-display curses`. Where',
  '  there is no terminal, or a serial port or monitor has it, nobody sees the screen.',
  '- A card whose own option ROM is not installed (the package `ipxe-qemu`) has none, and a machine with firmware says so;',
  '  QEMU does not start.',
  '- A `-netdev socket` or `stream` that cannot connect, or listen, ends the command before the machine starts.',
  '- On q35 the floppy controller comes with the first floppy drive, unless an `isa-fdc` is plugged in before. No machine',
  '  has a slot for an SD card, which QEMU lists as `sd0`.',
  '- A floppy drive takes disks of the sizes that floppy disks have; QEMU takes any image for one.',
  '- `-d` knows `guest_errors` and `unimp` only, and logs at most 1000 of them in a second.',
  '- The process id in the file of `-pidfile` is not protected by a lock.',
  '- While the machine runs a device cannot be given a `bootindex`, ports of a `virtio-serial-pci` cannot be',
  '  added, and `drive_del` refuses a drive that a device has.',
  '- QMP has the commands that `query-commands` lists, and no out-of-band execution.',
]

const INDENT = ' '.repeat(16)

/** The text of `-help`. */
export function helpText(groups: readonly OptionGroup[]): string {
  const lines = ['usage: qemu-kvm [options] [disk_image]', '']
  for (const group of groups) {
    lines.push(`${group.title}:`)
    for (const option of group.options) lines.push(...optionLines(option))
    lines.push('')
  }
  lines.push(
    'One or two dashes begin an option. A comma inside a value is written twice.',
    "With -nographic, 'Ctrl-A h' shows the keys of the terminal and 'Ctrl-A x' ends the program.",
  )
  return lines.join('\n')
}

const GENERATED =
  '<!-- Written by `node --import tsx src/cli/write-docs.ts` in packages/qemu-vmm; do not edit. -->'

/** The reference of the command line in Markdown: texts by the names of files. */
export function helpPages(groups: readonly OptionGroup[]): Map<string, string> {
  const pages = new Map([['cli.md', helpMarkdown(groups)]])
  for (const { page, title, options } of groups) {
    if (page === undefined) continue
    const lines = [`# qemu-kvm: ${title.toLowerCase()}`, '', GENERATED, '']
    lines.push('Options of [the command line](cli.md).', '')
    for (const option of options) lines.push(...optionMarkdown(option))
    pages.set(page, `${lines.join('\n').trimEnd()}\n`)
  }
  return pages
}

function helpMarkdown(groups: readonly OptionGroup[]): string {
  const lines = [
    '# qemu-kvm: command line',
    '',
    GENERATED,
    '',
    'Options are those of QEMU 7.2, and mean what they mean there. What is not listed is refused.',
    'One or two dashes begin an option. A comma inside a value is written twice: `,,`. A key without',
    '`=` means `on`.',
    '',
  ]
  for (const group of groups) {
    lines.push(`## ${group.title}`, '')
    if (group.page === undefined) {
      for (const option of group.options) lines.push(...optionMarkdown(option))
    } else {
      const names = group.options.map(({ name }) => `\`-${name}\``).join(', ')
      lines.push(`${names}: [a page of their own](${group.page}).`, '')
    }
  }
  lines.push(...NOTES)
  return `${lines.join('\n').trimEnd()}\n`
}

function optionLines(option: OptionSpec): string[] {
  const head = usage(option)
  const help = option.help.map((line) => INDENT + line)
  // A short head shares its line with the first line of help.
  const lines =
    head.length < INDENT.length
      ? [head.padEnd(INDENT.length) + (option.help[0] ?? ''), ...help.slice(1)]
      : [head, ...help]
  if (option.keys !== undefined && option.keys.length > 1) {
    lines.push(...option.keys.map((key) => `${INDENT}${keyText(key).padEnd(20)} ${key.help}`))
  }
  return lines
}

function usage(option: OptionSpec): string {
  const names = [option.name, ...(option.aliases ?? [])].map((name) => `-${name}`).join(' or ')
  return option.argument === undefined ? names : `${names} ${option.argument}`
}

function keyText(key: KeySpec): string {
  return `${key.name}=${key.value}`
}

function optionMarkdown(option: OptionSpec): string[] {
  const lines = [`### \`${usage(option)}\``, '', `${sentence(option.help.join(' '))}`, '']
  if (option.repeatable) lines.push('May be given more than once.', '')
  if (option.keys === undefined) return lines
  lines.push('| key | meaning |', '|---|---|')
  for (const key of option.keys) {
    const implied = key.name === option.implied ? ' The key may be left out in front.' : ''
    lines.push(`| ${cell(`\`${keyText(key)}\``)} | ${cell(sentence(key.help) + implied)} |`)
  }
  lines.push('')
  return lines
}

function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1)
  return first.endsWith('.') ? first : `${first}.`
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}
