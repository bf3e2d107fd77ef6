import "./components/sign-in.js";
