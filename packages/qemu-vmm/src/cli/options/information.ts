import type { OptionGroup } from '../option.ts'
import { versionText } from '../version.ts'

/** `-help` and `-version`; the text of the former comes from all groups, this one included. */
export function information(helpText: () => string): OptionGroup {
  return {
    title: 'Information',
    options: [
      {
        name: 'help',
        aliases: ['h'],
        help: ['print this help and exit'],
        apply: () => helpText(),
      },
      {
        name: 'version',
        help: ['print the version and exit'],
        apply: () => versionText(),
      },
    ],
  }
}
