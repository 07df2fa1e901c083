"""What the operating system knows: processes, their trees and owners, the state directory."""
