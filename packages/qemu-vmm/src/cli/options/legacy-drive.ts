import type { OptionSpec } from '../option.ts'
import { drive } from './drive.ts'

/** An option that names the image at one place of the IDE controller. */
function ideOption(name: string, index: number, media: 'disk' | 'cdrom', what: string): OptionSpec {
  return {
    name,
    argument: 'file',
    help: [`${what}, as '-drive file=FILE,index=${index},media=${media}'`],
    apply(settings, value, at) {
      const file = value.replaceAll(',', ',,')
      return drive.apply(settings, `file=${file},if=ide,index=${index},media=${media}`, at)
    },
  }
}

/** An option that names the image in a floppy drive. */
function floppyOption(name: string, index: number, what: string): OptionSpec {
  return {
    name,
    argument: 'file',
    help: [`${what}, as '-drive file=FILE,if=floppy,index=${index}'`],
    apply(settings, value, at) {
      const file = value.replaceAll(',', ',,')
      return drive.apply(settings, `file=${file},if=floppy,index=${index}`, at)
    },
  }
}

/** The flash chip that firmware runs from, or the one for its variables. */
const pflash: OptionSpec = {
  name: 'pflash',
  argument: 'file',
  repeatable: true,
  help: ["next flash chip, as '-drive file=FILE,if=pflash'"],
  apply(settings, value, at) {
    return drive.apply(settings, `file=${value.replaceAll(',', ',,')},if=pflash`, at)
  },
}

/** `-pflash`, `-fda` and `-fdb`, `-hda` to `-hdd` and `-cdrom`. */
export const legacyDrives: readonly OptionSpec[] = [
  pflash,
  floppyOption('fda', 0, 'first floppy disk'),
  floppyOption('fdb', 1, 'second floppy disk'),
  ideOption('hda', 0, 'disk', 'first IDE disk'),
  ideOption('hdb', 1, 'disk', 'second IDE disk'),
  ideOption('hdc', 2, 'disk', 'third IDE disk'),
  ideOption('hdd', 3, 'disk', 'fourth IDE disk'),
  ideOption('cdrom', 2, 'cdrom', 'medium of the CD drive'),
]
