// The smallest application in Go: one line on stdout, arguments after it.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Println("¡Hola desde Go y Qyvol!")
	for _, arg := range os.Args[1:] {
		fmt.Println(arg)
	}
}
