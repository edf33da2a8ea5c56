import type { Picture } from '../chipset/vga/render.ts'

/** A device with a screen. */
export interface Display {
  /** The text on the screen, rows without the spaces at their ends; undefined in graphics modes. */
  text(): string | undefined
  /** What a monitor would show. */
  picture(): Picture
  /** Puts the screen where firmware leaves it: an empty text mode. */
  setTextMode(): void
}
