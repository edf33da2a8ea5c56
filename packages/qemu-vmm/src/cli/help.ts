import type { KeySpec, OptionGroup, OptionSpec } from './option.ts'

const INDENT = ' '.repeat(16)

/** The text of `-help`. */
export function helpText(groups: readonly OptionGroup[]): string {
  const lines = ['usage: qemu-kvm [options]', '']
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

/** The reference of the command line in Markdown. */
export function helpMarkdown(groups: readonly OptionGroup[]): string {
  const lines = [
    '# qemu-kvm: command line',
    '',
    '<!-- Written by `node --import tsx src/cli/write-docs.ts` in packages/qemu-vmm; do not edit. -->',
    '',
    'Options are those of QEMU 7.2, and mean what they mean there. What is not listed is refused.',
    'One or two dashes begin an option. A comma inside a value is written twice: `,,`. A key without',
    '`=` means `on`.',
    '',
  ]
  for (const group of groups) {
    lines.push(`## ${group.title}`, '')
    for (const option of group.options) lines.push(...optionMarkdown(option))
  }
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
