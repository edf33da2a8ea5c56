import type { Picture } from '../chipset/vga/render.ts'
import type { Screen } from './screen.ts'

/** A device with a screen. */
export interface Display {
  /** What is on the screen: text, or the size of what is not. */
  screen(): Screen
  /** What a monitor would show. */
  picture(): Picture
  /** Puts the screen where firmware leaves it: an empty text mode. */
  setTextMode(): void
}
