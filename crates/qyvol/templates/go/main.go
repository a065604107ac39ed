// Greets whoever is named in its first argument.
package main

import (
	"fmt"
	"os"
)

func main() {
	name := "world"
	if len(os.Args) > 1 {
		name = os.Args[1]
	}
	fmt.Println(greeting(name))
}

func greeting(name string) string {
	return fmt.Sprintf("Hello, %s!", name)
}
