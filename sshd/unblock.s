// The linkname declarations in unblock.go have no body; an assembly file in the
// package lets the compiler take them.
