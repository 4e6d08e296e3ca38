//go:build !linux

package main

// reserveHugePages does nothing here.
func reserveHugePages(string) {}
