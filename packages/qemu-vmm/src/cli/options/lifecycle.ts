import { flagOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'

export const lifecycle: OptionGroup = {
  title: 'Life of the machine',
  options: [
    flagOption('S', ["do not start the processors; 'cont' in the monitor does"], (settings) => {
      settings.startPaused = true
    }),
    flagOption('no-reboot', ['end when the guest resets'], (settings) => {
      settings.reboot = false
    }),
    flagOption(
      'no-shutdown',
      ['stop the processors instead of ending when the guest powers off'],
      (settings) => {
        settings.shutdown = false
      },
    ),
    flagOption(
      'nodefaults',
      ['no serial port, monitor, VGA or CD drive unless asked for'],
      (settings) => {
        settings.defaultDevices = false
      },
    ),
  ],
}
