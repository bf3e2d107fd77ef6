import "./components/omakase-app.js";
