import { CliError } from '../cli-error.ts'
import { flagOption, keyvalOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'
import { object } from './object.ts'
import { formatSize, parseSize } from '../size.ts'

const PAGE_BYTES = 4096
/** Below this there is no room for what firmware keeps in the first megabyte. */
const MIN_BYTES = 1024 * 1024

const NO_HOTPLUG = 'memory cannot be added to a running machine yet'

export const memory: OptionGroup = {
  title: 'Memory',
  options: [
    keyvalOption({
      name: 'm',
      argument: '[size=]megs',
      implied: 'size',
      help: [
        'guest memory; a number without a suffix counts MiB, suffixes are k, M, G and T',
        '(default: 128M)',
      ],
      keys: [{ name: 'size', value: 'size', help: 'how much memory the guest has' }],
      refused: { slots: NO_HOTPLUG, maxmem: NO_HOTPLUG },
      take(settings, values) {
        const text = values.get('size')
        if (text === undefined) throw new CliError("Parameter 'size' is missing")
        settings.memoryBytes = ramSize(text)
      },
    }),
    {
      name: 'mem-path',
      argument: 'path',
      help: ['guest memory in a file, or in a folder: a hugetlbfs has large pages'],
      apply(settings, value) {
        if (value === '') throw new CliError('requires a path')
        settings.memPath = value
      },
    },
    flagOption(
      'mem-prealloc',
      ['take all guest memory from the host before the machine starts'],
      (settings) => {
        settings.memPrealloc = true
      },
    ),
    object,
  ],
}

function ramSize(text: string): number {
  const bytes = parseSize(text, 'M', 'size')
  if (bytes < MIN_BYTES) {
    throw new CliError(
      `invalid RAM size: ${formatSize(bytes)}, a machine needs at least ${formatSize(MIN_BYTES)}`,
    )
  }
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES
}
